//! Sealed identifiers: values that clients keep for the gateway and can neither read, change nor use elsewhere.
//!
//! Owns the text form `base64url(key id, nonce, ciphertext)` of XChaCha20-Poly1305. Always: a value opens only under the
//! purpose and scope it was sealed for, and every failure is the same [`Unopened`] (S-TRUST-01). The nonce is random, so
//! nodes that share keys need no counter (S-TRUST-04). Not here: what the payload means, single use, storage.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

const KEY_ID: usize = 4;
const NONCE: usize = 24;
const HEAD: usize = KEY_ID + NONCE;
const EXPIRY: usize = 8;
const NEVER: u64 = u64::MAX;

/// What a sealed value is for: one word per kind of identifier, chosen by the module that owns the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose(&'static str);

impl Purpose {
    /// A kind of identifier.
    pub const fn new(word: &'static str) -> Self {
        Purpose(word)
    }
}

/// A value did not open: altered, cut, sealed by another key, for another purpose or scope, or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a value this gateway handed out for this use")]
pub struct Unopened;

/// 256 bits from the operator or the system. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// A key that was kept.
    pub fn new(bytes: [u8; 32]) -> Self {
        SealingKey(bytes)
    }

    /// A fresh key; fails only when the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(SealingKey(bytes))
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Seals with its first key and opens with any, so that keys rotate with an overlap.
pub struct Sealer {
    keys: Vec<ReadyKey>,
}

struct ReadyKey {
    id: [u8; KEY_ID],
    cipher: XChaCha20Poly1305,
}

impl ReadyKey {
    fn new(key: &SealingKey) -> Self {
        let digest = Sha256::new().chain_update(b"switchyard sealing key id").chain_update(key.0).finalize();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        ReadyKey { id, cipher: XChaCha20Poly1305::new(&key.0.into()) }
    }
}

impl Sealer {
    /// The first key seals; the others still open what they sealed. `None` without any key.
    pub fn new(keys: &[SealingKey]) -> Option<Self> {
        (!keys.is_empty()).then(|| Sealer { keys: keys.iter().map(ReadyKey::new).collect() })
    }

    /// One random key that ends with the process.
    pub fn ephemeral() -> Result<Self, getrandom::Error> {
        Ok(Sealer { keys: vec![ReadyKey::new(&SealingKey::random()?)] })
    }

    /// Seals `payload` for good.
    pub fn seal(&self, purpose: Purpose, scope: &[&str], payload: &[u8]) -> String {
        self.seal_with(purpose, scope, payload, NEVER)
    }

    /// Seals `payload` until `expires` (whole seconds).
    pub fn seal_until(
        &self,
        purpose: Purpose,
        scope: &[&str],
        payload: &[u8],
        expires: SystemTime,
    ) -> String {
        self.seal_with(purpose, scope, payload, seconds(expires))
    }

    /// Opens a value that was sealed for good.
    pub fn open(&self, purpose: Purpose, scope: &[&str], text: &str) -> Result<Vec<u8>, Unopened> {
        match self.open_with(purpose, scope, text)? {
            (NEVER, payload) => Ok(payload),
            _ => Err(Unopened),
        }
    }

    /// Opens a value if it has not expired at `now`.
    pub fn open_at(
        &self,
        purpose: Purpose,
        scope: &[&str],
        text: &str,
        now: SystemTime,
    ) -> Result<Vec<u8>, Unopened> {
        let (expires, payload) = self.open_with(purpose, scope, text)?;
        if seconds(now) < expires { Ok(payload) } else { Err(Unopened) }
    }

    fn seal_with(&self, purpose: Purpose, scope: &[&str], payload: &[u8], expires: u64) -> String {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).expect("the system gave randomness when the keys were made");
        let mut plain = Vec::with_capacity(EXPIRY + payload.len());
        plain.extend_from_slice(&expires.to_be_bytes());
        plain.extend_from_slice(payload);
        let aad = associated(purpose, scope);
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &aad })
            .expect("identifiers are far below the cipher's limit");
        URL_SAFE_NO_PAD.encode([&key.id[..], &nonce, &sealed].concat())
    }

    fn open_with(&self, purpose: Purpose, scope: &[&str], text: &str) -> Result<(u64, Vec<u8>), Unopened> {
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| Unopened)?;
        let (head, sealed) = raw.split_at_checked(HEAD).ok_or(Unopened)?;
        let (id, nonce) = head.split_at(KEY_ID);
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Unopened)?;
        let aad = associated(purpose, scope);
        // Two keys may share an id by chance: every key of that id gets its try.
        let mut plain = self
            .keys
            .iter()
            .filter(|key| key.id == id)
            .find_map(|key| key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &aad }).ok())
            .ok_or(Unopened)?;
        let expires: [u8; EXPIRY] =
            plain.get(..EXPIRY).and_then(|raw| raw.try_into().ok()).ok_or(Unopened)?;
        plain.drain(..EXPIRY);
        Ok((u64::from_be_bytes(expires), plain))
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.len()).finish()
    }
}

/// Purpose and scope, each with its length, so that `["ab", "c"]` and `["a", "bc"]` are two scopes.
fn associated(purpose: Purpose, scope: &[&str]) -> Vec<u8> {
    let mut aad = Vec::with_capacity(64);
    for part in std::iter::once(&purpose.0).chain(scope) {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CURSOR: Purpose = Purpose::new("cursor");
    const SESSION: Purpose = Purpose::new("session");

    fn key(byte: u8) -> SealingKey {
        SealingKey::new([byte; 32])
    }

    fn sealer(keys: &[u8]) -> Sealer {
        Sealer::new(&keys.iter().copied().map(key).collect::<Vec<_>>()).expect("has keys")
    }

    #[test]
    fn s_trust_01_a_value_opens_only_for_its_purpose_and_scope() {
        let sealer = sealer(&[1]);
        let text = sealer.seal(CURSOR, &["/mcp", "tools"], b"7");
        assert_eq!(sealer.open(CURSOR, &["/mcp", "tools"], &text), Ok(b"7".to_vec()));
        for scope in [&["/mcp"][..], &["/mcp", "prompts"], &["/mcpt", "ools"], &["/mcp", "tools", ""], &[]] {
            assert_eq!(sealer.open(CURSOR, scope, &text), Err(Unopened), "{scope:?}");
        }
        assert_eq!(sealer.open(SESSION, &["/mcp", "tools"], &text), Err(Unopened));
    }

    #[test]
    fn s_trust_01_every_flipped_bit_and_every_cut_is_refused() {
        let sealer = sealer(&[1]);
        let text = sealer.seal(CURSOR, &[], b"payload");
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let altered = String::from_utf8(bytes).expect("ASCII stays ASCII");
                assert_eq!(sealer.open(CURSOR, &[], &altered), Err(Unopened), "bit {bit} of byte {at}");
            }
            assert_eq!(sealer.open(CURSOR, &[], &text[..at]), Err(Unopened), "cut at {at}");
        }
        for longer in [format!("{text}A"), format!("{text}="), format!("{text}\n"), format!("A{text}")] {
            assert_eq!(sealer.open(CURSOR, &[], &longer), Err(Unopened));
        }
    }

    #[test]
    fn s_trust_04_keys_rotate_with_an_overlap() {
        let old = sealer(&[1]);
        let both = sealer(&[2, 1]);
        let new = sealer(&[2]);
        let before = old.seal(CURSOR, &[], b"old");
        let after = both.seal(CURSOR, &[], b"new");
        assert_eq!(both.open(CURSOR, &[], &before), Ok(b"old".to_vec()));
        assert_eq!(new.open(CURSOR, &[], &after), Ok(b"new".to_vec()));
        assert_eq!(new.open(CURSOR, &[], &before), Err(Unopened));
        assert!(Sealer::new(&[]).is_none());
        assert!(!format!("{:?} {both:?}", key(7)).contains('7'));
    }

    #[test]
    fn a_value_with_an_end_opens_only_before_it() {
        let sealer = Sealer::ephemeral().expect("randomness");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let text = sealer.seal_until(SESSION, &["me"], b"x", at(100));
        assert_eq!(sealer.open_at(SESSION, &["me"], &text, at(99)), Ok(b"x".to_vec()));
        assert_eq!(sealer.open_at(SESSION, &["me"], &text, at(100)), Err(Unopened));
        assert_eq!(sealer.open(SESSION, &["me"], &text), Err(Unopened));
        let lasting = sealer.seal(SESSION, &["me"], b"x");
        assert_eq!(sealer.open_at(SESSION, &["me"], &lasting, at(1 << 40)), Ok(b"x".to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_never_looks_alike_twice(payload in prop::collection::vec(any::<u8>(), 0..200), scope in any::<String>()) {
            let sealer = sealer(&[9]);
            let first = sealer.seal(CURSOR, &[&scope], &payload);
            prop_assert_eq!(sealer.open(CURSOR, &[&scope], &first), Ok(payload.clone()));
            prop_assert_ne!(first, sealer.seal(CURSOR, &[&scope], &payload));
        }

        #[test]
        fn noise_never_panics(text in any::<String>()) {
            prop_assert_eq!(sealer(&[9]).open(CURSOR, &[], &text), Err(Unopened));
        }
    }
}
