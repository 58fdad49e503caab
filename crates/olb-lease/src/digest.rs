//! Domain-separated digests whose pre-images are deterministic CBOR, and therefore injective.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::cbor::Writer;
use crate::id::{Audience, Digest};
use crate::key::{LeaseIssuer, PublicKey};
use crate::plan::Directory;

/// SHA-256 (FIPS 180-4) of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 over `domain`, a zero byte, and `bytes`.
pub(crate) fn tagged(domain: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update([0]);
    hash.update(bytes);
    hash.finalize().into()
}

/// Digest of an argument vector: SHA-256 over CBOR `["olbl/argv/v1", [bstr...]]`.
#[must_use]
pub fn argv_digest(argv: &[Vec<u8>]) -> Digest {
    let mut cbor = Writer::new();
    cbor.array(2).text("olbl/argv/v1").array(argv.len());
    for word in argv {
        cbor.bytes(word);
    }
    Digest(sha256(&cbor.finish()))
}

/// Digest of an environment: SHA-256 over CBOR `["olbl/env/v1", {bstr name: bstr value}]`, names in
/// the order of their encoding (shorter ones first).
#[must_use]
pub fn env_digest(environment: &BTreeMap<Vec<u8>, Vec<u8>>) -> Digest {
    let mut cbor = Writer::new();
    cbor.array(2).text("olbl/env/v1");
    write_env(&mut cbor, environment);
    Digest(sha256(&cbor.finish()))
}

/// Appends an environment as a map in deterministic key order.
pub(crate) fn write_env(cbor: &mut Writer, environment: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut pairs: Vec<_> = environment.iter().collect();
    pairs.sort_by_key(|(name, _)| (name.len(), name.as_slice()));
    cbor.map(pairs.len());
    for (name, value) in pairs {
        cbor.bytes(name).bytes(value);
    }
}

/// Digest of a working directory: SHA-256 over CBOR `["olbl/cwd/v1", path, dev, ino]`.
#[must_use]
pub fn cwd_digest(cwd: &Directory) -> Digest {
    let mut cbor = Writer::new();
    cbor.array(4).text("olbl/cwd/v1").bytes(&cwd.path).uint(cwd.dev).uint(cwd.ino);
    Digest(sha256(&cbor.finish()))
}

/// The audience of one broker: SHA-256 over CBOR `["olbl/aud/v1", host name, lease public key]`, so
/// that neither a renamed host nor a new lease key accepts what was meant for the old one.
#[must_use]
pub fn audience(host: &str, lease_key: &PublicKey<LeaseIssuer>) -> Audience {
    let mut cbor = Writer::new();
    cbor.array(3).text("olbl/aud/v1").text(host).bytes(lease_key.as_bytes());
    Audience(sha256(&cbor.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.to_vec()).collect()
    }

    #[test]
    fn argv_digest_has_its_known_answer() {
        let argv = words(&[b"/bin/echo", b"a", b"", b"\xff"]);
        let want = "1ae81341d003bf613ec8255a56438571ac7d15a30469baa21dbcc25a92025ecb";
        assert_eq!(argv_digest(&argv).hex(), want);
    }

    #[test]
    fn env_digest_has_its_known_answer() {
        let environment = [("PATH", "/usr/bin:/bin"), ("A", ""), ("LC_ALL", "C")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let want = "de5ad42ae14cd40cdf8c45dd913f1b2c56ca07645fa17a2ee6880878f49bfd5d";
        assert_eq!(env_digest(&environment).hex(), want);
    }

    #[test]
    fn argv_boundaries_are_part_of_the_digest() {
        assert_ne!(argv_digest(&words(&[b"a b"])), argv_digest(&words(&[b"a", b"b"])));
        assert_ne!(argv_digest(&words(&[b"a", b""])), argv_digest(&words(&[b"a"])));
    }
}
