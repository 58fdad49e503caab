//! Decoders by others, as judges of what ours accepts.

use ciborium::Value;

/// Two independent decoders read `bytes`, whole, and one of them writes the same bytes again: what
/// was accepted has one meaning and one encoding.
pub(crate) fn others_agree(bytes: &[u8]) {
    let value: Value = ciborium::from_reader(bytes).expect("ciborium reads it");
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).expect("a value can be written");
    assert_eq!(again, bytes, "another encoding of the same value was accepted");
    serde_cbor::from_slice::<serde_cbor::Value>(bytes).expect("serde_cbor reads it");
}
