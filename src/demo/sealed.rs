//! The `requestState` of a call that waits for input: encrypted, authenticated, bound to its request and short-lived.
//!
//! Always: state that was altered, is older than ten minutes, or belongs to another request is refused. The server keeps nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::wire::{Fault, Object};

const LIFETIME: Duration = Duration::from_secs(600);
const NONCE_BYTES: usize = 24;

/// Seals and opens request states with a key of this process.
pub(crate) struct Seal {
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key)?;
        Ok(Seal { cipher: XChaCha20Poly1305::new(&key.into()) })
    }

    /// The answers so far, as a string only this process can read back.
    pub(crate) fn close(&self, request: &str, answers: &Object) -> Result<String, Fault> {
        let payload =
            json!({ "request": request, "until": seconds_now() + LIFETIME.as_secs(), "answers": answers });
        let mut nonce = [0u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| internal())?;
        let sealed =
            self.cipher.encrypt(&nonce.into(), payload.to_string().as_bytes()).map_err(|_| internal())?;
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The answers in a state that this process sealed for the same request not long ago.
    pub(crate) fn open(&self, request: &str, state: &str) -> Result<Object, Fault> {
        let bytes = URL_SAFE_NO_PAD.decode(state).map_err(|_| refused())?;
        if bytes.len() <= NONCE_BYTES {
            return Err(refused());
        }
        let (nonce, sealed) = bytes.split_at(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| refused())?;
        let plain = self.cipher.decrypt(&nonce.into(), sealed).map_err(|_| refused())?;
        let payload: Value = serde_json::from_slice(&plain).map_err(|_| refused())?;
        let in_time = payload["until"].as_u64().is_some_and(|until| until >= seconds_now());
        if !in_time || payload["request"] != request {
            return Err(refused());
        }
        payload["answers"].as_object().cloned().ok_or_else(refused)
    }
}

/// What makes a request the same one when it is repeated: its method and parameters, without metadata and answers.
pub(crate) fn request_digest(method: &str, params: &Object) -> String {
    let mut salient = params.clone();
    for volatile in ["_meta", "inputResponses", "requestState"] {
        salient.remove(volatile);
    }
    // Maps of serde_json are sorted by key, so equal parameters give equal text.
    let digest = Sha256::digest(format!("{method}\n{}", Value::Object(salient)));
    URL_SAFE_NO_PAD.encode(digest)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn refused() -> Fault {
    Fault::invalid_params("requestState is not one this server gave for this request, or it has expired")
}

fn internal() -> Fault {
    Fault::new(super::wire::INTERNAL_ERROR, "no randomness to protect requestState with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_opens_for_its_own_request_only() {
        let seal = Seal::new().unwrap();
        let params: Object = serde_json::from_str(r#"{"name":"ask","arguments":{"a":1,"b":2}}"#).unwrap();
        let same: Object =
            serde_json::from_str(r#"{"arguments":{"b":2,"a":1},"name":"ask","requestState":"x"}"#).unwrap();
        let state = seal.close(&request_digest("tools/call", &params), &Object::new()).unwrap();
        assert!(seal.open(&request_digest("tools/call", &same), &state).is_ok());
        assert!(seal.open(&request_digest("prompts/get", &same), &state).is_err());
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let seal = Seal::new().unwrap();
        let state = seal.close("r", &Object::new()).unwrap();
        assert!(seal.open("r", &format!("{state}-TAMPERED")).is_err());
        for index in 0..state.len() {
            let mut bytes = state.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            assert!(seal.open("r", std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {index}");
        }
        assert!(Seal::new().unwrap().open("r", &state).is_err());
    }

    #[test]
    fn every_round_gives_another_state() {
        let seal = Seal::new().unwrap();
        assert_ne!(seal.close("r", &Object::new()).unwrap(), seal.close("r", &Object::new()).unwrap());
    }
}
