//! Tokens (JWT), made by hand: HMAC and base64 and nothing of the proxy's.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outrigger::config::{Auth, File, Jwt, JwtAlgorithm, JwtKeys, TokenSource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What [`hs256`] signs with.
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Seconds since 1970.
pub fn epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs()
}

/// A token for `user` that lasts so many seconds from now.
pub fn for_user(user: &str, lasts: u64) -> String {
    hs256(None, SECRET, &json!({ "sub": user, "exp": epoch() + lasts }))
}

/// RFC 7515, with HMAC-SHA-256.
pub fn hs256(id: Option<&str>, secret: &[u8], claims: &Value) -> String {
    let mut head = json!({ "alg": "HS256", "typ": "JWT" });
    if let Some(id) = id {
        head["kid"] = id.into();
    }
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message =
        format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = hmac(secret, message.as_bytes());
    format!("{message}.{}", encode(&signature))
}

/// A key set (RFC 7517) of secrets, by their ids.
pub fn key_set(keys: &[(&str, &[u8])]) -> String {
    let key = |(id, secret): &(&str, &[u8])| json!({ "kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) });
    json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

/// As the file of API keys has it.
pub fn sha256_hex(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that was read.
pub fn file(path: &str, contents: impl AsRef<[u8]>) -> File {
    File { path: path.into(), contents: contents.as_ref().into() }
}

/// HS256 by these keys, without leeway, from the header.
pub fn jwt(keys: JwtKeys) -> Jwt {
    Jwt {
        keys,
        algorithms: vec![JwtAlgorithm::Hs256],
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::ZERO,
        user_claim: "sub".into(),
        token_from: vec![TokenSource::Header],
        close_on_expiry: true,
    }
}

/// By [`SECRET`], from these places.
pub fn by_secret(token_from: &[TokenSource]) -> Auth {
    Auth::Jwt(Jwt { token_from: token_from.to_vec(), ..jwt(JwtKeys::Secret(file("secret", SECRET))) })
}

/// RFC 2104, for keys of up to a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::digest([&padded(0x36)[..], message].concat());
    Sha256::digest([&padded(0x5c)[..], &inner[..]].concat()).into()
}
