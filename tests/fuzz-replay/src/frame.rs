//! Messages between `olb` and the front.

use std::fmt::Debug;

use olb_wire::{LENGTH_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes as a message with its length in front, in both directions. Accepted means: what was
/// understood survives being sent on.
///
/// # Panics
/// It does not.
pub fn wire_frame(data: &[u8]) {
    let Some((prefix, rest)) = data.split_first_chunk::<LENGTH_BYTES>() else { return };
    if let Ok(length) = olb_wire::body_length(*prefix, REQUEST_BYTES_MAX) {
        assert!(length <= REQUEST_BYTES_MAX);
        if let Some(body) = rest.get(..length) {
            message::<Request>(body, REQUEST_BYTES_MAX);
            message::<Response>(body, RESPONSE_BYTES_MAX);
        }
    }
}

fn message<T>(body: &[u8], max: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Ok(message) = olb_wire::decode::<T>(body) else { return };
    let sent = olb_wire::encode(&message, max).expect("what was read can be sent");
    let again: T = olb_wire::decode(&sent[LENGTH_BYTES..]).expect("what was sent can be read");
    assert_eq!(again, message);
}
