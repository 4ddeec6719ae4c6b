//! What signatures are checked with: a secret, a public key, or a set of keys. Parsed once.
//!
//! # Invariants
//! 1. A key is for the algorithms of its own kind and size only, whatever a token says: a public key is
//!    never a secret to make HMACs with.
//! 2. A key that is chosen is the only one that fits. Two that do are none.
//!
//! # Not here
//! Which algorithms an operator allows ([`super::jwt`] asks that first); fetching ([`super::jwks`]).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;

use crate::config::{File, JwtAlgorithm};
use crate::telemetry::AuthFailure;

use super::algorithms;
use super::error::AuthError;

/// Keys of one set. Large providers publish a dozen.
const MAX_KEYS: usize = 128;
/// RFC 7518 §3.3 and §3.5: shorter ones must not be used, and the library refuses their signatures.
const MIN_RSA: usize = 2048 / 8;
const MAX_RSA: usize = 8192 / 8;

/// Keys that are ready for use.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// One key of a file has no id: whatever a token says, it is that one.
    has_ids: bool,
}

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    kind: Kind,
    /// The only one it may be used with, where its owner says so.
    algorithm: Option<JwtAlgorithm>,
    decoding: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm as A;
        match algorithm {
            A::Hs256 | A::Hs384 | A::Hs512 => self == Self::Secret,
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => self == Self::Rsa,
            A::Es256 => self == Self::P256,
            A::Es384 => self == Self::P384,
            A::EdDsa => self == Self::Ed25519,
        }
    }
}

impl Key {
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.kind.fits(algorithm) && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

impl KeySet {
    /// A secret: the file without its last line break, which editors add.
    pub(super) fn secret(file: &File) -> Result<Self, AuthError> {
        let bytes = &*file.contents;
        let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
        if bytes.is_empty() {
            return Err(AuthError::Secret { path: file.path.clone() });
        }
        Ok(Self::one(Kind::Secret, DecodingKey::from_secret(bytes)))
    }

    /// A public key in PEM.
    pub(super) fn public(file: &File, algorithms: &[JwtAlgorithm]) -> Result<Self, AuthError> {
        let wrong = |what| AuthError::PublicKey { path: file.path.clone(), what };
        let text = std::str::from_utf8(&file.contents).map_err(|_| wrong("it is not PEM"))?;
        // The library would take these for what they are not, and then no token would ever fit.
        if text.contains("PRIVATE KEY-----") {
            return Err(wrong("it holds a private key, which has no business here; give its public half"));
        }
        if text.contains("BEGIN CERTIFICATE-----") {
            return Err(wrong("it is a certificate; `openssl x509 -pubkey -noout` takes the key out of it"));
        }
        let pem = text.as_bytes();
        let (kind, key) = if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
                // The modulus and a few bytes around it.
                0..MIN_RSA => return Err(wrong("the RSA key is shorter than 2048 bits")),
                _ => (Kind::Rsa, key),
            }
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            match key.try_get_as_bytes() {
                Ok([4, point @ ..]) if point.len() == 64 => (Kind::P256, key),
                Ok([4, point @ ..]) if point.len() == 96 => (Kind::P384, key),
                _ => return Err(wrong("the elliptic curve is neither P-256 nor P-384")),
            }
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (Kind::Ed25519, key)
        } else {
            return Err(wrong("it is not the PEM of an RSA, P-256, P-384 or Ed25519 public key"));
        };
        if !algorithms.iter().any(|algorithm| kind.fits(*algorithm)) {
            return Err(wrong("it is for none of policy.auth.jwt.algorithms"));
        }
        Ok(Self::one(kind, key))
    }

    fn one(kind: Kind, decoding: DecodingKey) -> Self {
        Self { keys: vec![Key { id: None, kind, algorithm: None, decoding }], has_ids: false }
    }

    /// A set in JSON (RFC 7517 §5). Keys that are of no use here are passed over, as it wants; there has
    /// to be one that is.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn from_json(json: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(json)
            .map_err(|_| "it is not a JSON Web Key Set: an object with an array `keys`")?;
        if document.keys.len() > MAX_KEYS {
            return Err("it has more than 128 keys");
        }
        let read = document.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let mut keys = read.filter_map(|jwk| usable(&jwk)).collect::<Vec<_>>();
        keys.retain(|key| algorithms.iter().any(|algorithm| key.fits(*algorithm)));
        if keys.is_empty() {
            return Err("none of its keys can check a signature by one of policy.auth.jwt.algorithms");
        }
        Ok(Self { keys, has_ids: true })
    }

    /// The key for a token.
    ///
    /// # Errors
    /// There is none of that id, or none of that id fits, or more than one does.
    pub(super) fn pick(
        &self,
        id: Option<&str>,
        algorithm: JwtAlgorithm,
    ) -> Result<&DecodingKey, AuthFailure> {
        let is_named = |key: &&Key| !self.has_ids || id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut fitting = self.keys.iter().filter(is_named).filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.decoding),
            (None, _) if self.keys.iter().any(|key| is_named(&key)) => Err(AuthFailure::Algorithm),
            _ => Err(AuthFailure::UnknownKey),
        }
    }
}

/// A key that signatures can be checked with.
fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    if jwk.common.key_operations.as_ref().is_some_and(|uses| !uses.contains(&KeyOperations::Verify)) {
        return None;
    }
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            let bytes = decode(&key.n)?;
            let size = bytes.iter().skip_while(|byte| **byte == 0).count();
            (MIN_RSA..=MAX_RSA).contains(&size).then_some(Kind::Rsa)?
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let (kind, size) = match key.curve {
                EllipticCurve::P256 => (Kind::P256, 32),
                EllipticCurve::P384 => (Kind::P384, 48),
                _ => return None,
            };
            (decode(&key.x)?.len() == size && decode(&key.y)?.len() == size).then_some(kind)?
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (decode(&key.x)?.len() == 32).then_some(Kind::Ed25519)?
        }
        AlgorithmParameters::OctetKey(key) => (!decode(&key.value)?.is_empty()).then_some(Kind::Secret)?,
        _ => return None,
    };
    let algorithm = match jwk.common.key_algorithm {
        None => None,
        // Of another use, or one that nobody here knows.
        Some(named) => Some(algorithms::named(&named.to_string())?),
    };
    let id = jwk.common.key_id.as_deref().map(Into::into);
    Some(Key { id, kind, algorithm, decoding: DecodingKey::from_jwk(jwk).ok()? })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
