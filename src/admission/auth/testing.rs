//! What the tests of this folder share.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::admission::{Kind, RequestContext};
use crate::config::{File, Jwt, JwtAlgorithm, JwtKeys, TokenSource};
use crate::net::Peer;

pub(super) fn file(path: &str, contents: impl AsRef<[u8]>) -> File {
    File { path: path.into(), contents: contents.as_ref().into() }
}

/// Somebody who issues tokens.
pub(super) struct Issuer {
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
    pub(super) public_pem: String,
    pub(super) private_pem: String,
}

impl Issuer {
    /// RSA keys take a while to be made: one for all tests.
    pub(super) fn rsa() -> &'static Self {
        static RSA: LazyLock<Issuer> = LazyLock::new(|| {
            Issuer::with(&KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), Algorithm::RS256)
        });
        &RSA
    }

    pub(super) fn p256() -> Self {
        Self::with(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), Algorithm::ES256)
    }

    pub(super) fn p384() -> Self {
        Self::with(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), Algorithm::ES384)
    }

    pub(super) fn ed25519() -> Self {
        Self::with(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), Algorithm::EdDSA)
    }

    fn with(pair: &KeyPair, algorithm: Algorithm) -> Self {
        let private_pem = pair.serialize_pem();
        let pem = private_pem.as_bytes();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_ec_pem(pem),
        };
        Self { algorithm, key: key.unwrap(), public_pem: pair.public_key_pem(), private_pem }
    }

    /// Its public half as an entry of a set.
    pub(super) fn jwk(&self, id: Option<&str>) -> Value {
        let pem = self.public_pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            _ => DecodingKey::from_ec_pem(pem),
        };
        let mut jwk = Jwk::from_decoding_key(&key.unwrap(), Some(self.algorithm)).unwrap();
        jwk.common.key_id = id.map(str::to_owned);
        serde_json::to_value(jwk).unwrap()
    }

    pub(super) fn token(&self, id: Option<&str>, claims: &Value) -> String {
        self.token_by(self.algorithm, id, claims)
    }

    pub(super) fn token_by(&self, algorithm: Algorithm, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = id.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

pub(super) fn hmac(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A set of these keys.
pub(super) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub(super) fn jwt(keys: JwtKeys, algorithms: &[JwtAlgorithm]) -> Jwt {
    Jwt {
        keys,
        algorithms: algorithms.to_vec(),
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::from_secs(30),
        user_claim: "sub".into(),
        token_from: vec![TokenSource::Header],
        close_on_expiry: true,
    }
}

pub(super) fn context(kind: Kind, method: &str, target: &str, headers: &[(&str, &str)]) -> RequestContext {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request
            .header(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let peer = Arc::new(Peer { address: "192.0.2.7:4321".parse().ok(), port: Some(80), ..Peer::default() });
    RequestContext::new(request.body(()).unwrap().into_parts().0, kind, peer)
}
