//! Ed25519 keys (RFC 8032), one type per role, so that a key of one role cannot sign or verify the
//! statements of another.

use std::fmt;
use std::marker::PhantomData;

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::digest::tagged;
use crate::id::Kid;

/// Who signs what. Sealed: the three roles of the protocol.
pub trait Role: sealed::Sealed {
    /// The COSE `external_aad` of what this role signs.
    const CONTEXT: &'static [u8];
    /// What the role's key is called in messages.
    const NAME: &'static str;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident, $context:literal, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Role for $name {
            const CONTEXT: &'static [u8] = $context;
            const NAME: &'static str = $text;
        }
    };
}

role!(
    /// A person or service whose verdicts count; signs verdicts.
    Approver, b"olbl/verdict/v1", "approver key"
);
role!(
    /// The root half; signs leases.
    LeaseIssuer, b"olbl/lease/v1", "lease key"
);
role!(
    /// The root half; signs receipts, which are heads of the audit chain.
    Audit, b"olbl/receipt/v1", "audit key"
);

/// Public halves of the published test keys of RFC 8032 section 7.1 (TEST 1, 2, 3, 1024, SHA(abc)).
/// Their private halves are in every textbook.
pub(crate) const PUBLISHED_TEST_KEYS: [&str; 5] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
    "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
];

/// Why bytes are not a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not the one encoding of a point on the curve.
    #[error("not an Ed25519 public key")]
    NotAPoint,
    /// A published test key, whose private half everybody knows.
    #[error("a published test key, whose private half everybody knows")]
    Published,
    /// A key of small order, for which signatures prove nothing.
    #[error("a weak key: of small order")]
    Weak,
}

/// A public key of one role.
pub struct PublicKey<R> {
    key: VerifyingKey,
    role: PhantomData<R>,
}

impl<R> Clone for PublicKey<R> {
    fn clone(&self) -> Self {
        Self { key: self.key, role: PhantomData }
    }
}

impl<R: Role> PublicKey<R> {
    /// Checks and takes a public key of 32 bytes (RFC 8032 section 5.1.2).
    ///
    /// # Errors
    /// Not a point in its one encoding, of small order, or a published test key (in every build but this crate's own
    /// unit tests).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        // A second spelling of a point would give one key two ids (RFC 8032 section 5.1.3).
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        if cfg!(not(test)) && is_published(bytes) {
            return Err(KeyError::Published);
        }
        Ok(Self { key, role: PhantomData })
    }

    /// From 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// As [`Self::from_bytes`]; other text is [`KeyError::NotAPoint`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let bytes = crate::id::Digest::from_hex(text).map_err(|_| KeyError::NotAPoint)?;
        Self::from_bytes(bytes.as_bytes())
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Lower-case hexadecimal of the key.
    #[must_use]
    pub fn hex(&self) -> String {
        crate::id::hex(self.as_bytes())
    }

    /// The key id: the first 8 bytes of SHA-256 over `olbl/kid/v1`, a zero byte, and the key.
    #[must_use]
    pub fn kid(&self) -> Kid {
        let digest = tagged("olbl/kid/v1", self.as_bytes());
        let mut kid = [0; 8];
        kid.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Kid(kid)
    }

    /// Whether `signature` over `message` is valid under the strict rules.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl<R: Role> PartialEq for PublicKey<R> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<R: Role> Eq for PublicKey<R> {}

impl<R: Role> fmt::Debug for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", R::NAME, self.kid().hex())
    }
}

fn is_published(bytes: &[u8; 32]) -> bool {
    PUBLISHED_TEST_KEYS.contains(&crate::id::hex(bytes).as_str())
}

/// A private key of one role. Wiped when dropped; neither `Clone` nor `Debug`, on purpose.
pub struct SigningKey<R> {
    key: ed25519_dalek::SigningKey,
    public: PublicKey<R>,
}

impl<R: Role> SigningKey<R> {
    /// The key with this seed (RFC 8032 section 5.1.5); the caller draws the 32 random bytes.
    ///
    /// # Errors
    /// A published test key.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes())?;
        Ok(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey<R> {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// The signature check that everything here uses, on raw bytes: what the public test vectors judge.
/// False for anything that is not a valid key and signature under the strict rules.
#[must_use]
pub fn verify_strict_raw(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}
