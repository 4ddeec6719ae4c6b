use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::admission::auth::testing::{Issuer, file, hmac, jwt, set};
use crate::config::JwtAlgorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Ps256, Rs256, Rs512};
use crate::config::{Jwt, JwtKeys};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 2_000_000_000;

fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

fn by_secret() -> Jwt {
    jwt(JwtKeys::Secret(file("secret", SECRET)), &[Hs256])
}

fn ask(config: &Jwt, token: &str, now: f64) -> Result<User, AuthFailure> {
    let keys = match &config.keys {
        JwtKeys::Secret(file) => KeySet::secret(file).unwrap(),
        JwtKeys::PublicKey(file) => KeySet::public(file, &config.algorithms).unwrap(),
        JwtKeys::JwksFile(file) => KeySet::from_json(&file.contents, &config.algorithms).unwrap(),
        JwtKeys::JwksUrl { .. } => unreachable!(),
    };
    Rules::new(config).check(token.as_bytes(), &keys, at(now))
}

fn user(result: Result<User, AuthFailure>) -> Result<String, AuthFailure> {
    result.map(|user| user.name.to_string())
}

fn good() -> Value {
    json!({ "sub": "ann", "exp": NOW + 60 })
}

/// A token with this head, signed by the secret with HS256 whatever the head says.
fn forged(head: &str, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_of_each_kind_of_key_is_taken() {
    let rsa = Issuer::rsa();
    let pem = |issuer: &Issuer| JwtKeys::PublicKey(file("key.pem", &issuer.public_pem));
    for (algorithm, ours) in [(Algorithm::RS256, Rs256), (Algorithm::RS512, Rs512), (Algorithm::PS256, Ps256)]
    {
        let token = rsa.token_by(algorithm, None, &good());
        assert_eq!(user(ask(&jwt(pem(rsa), &[ours]), &token, NOW as f64)).unwrap(), "ann");
    }
    for (issuer, ours) in [(Issuer::p256(), Es256), (Issuer::p384(), Es384), (Issuer::ed25519(), EdDsa)] {
        let token = issuer.token(None, &good());
        assert_eq!(user(ask(&jwt(pem(&issuer), &[ours]), &token, NOW as f64)).unwrap(), "ann", "{ours:?}");
        let other = set(&[issuer.jwk(Some("a"))]);
        let token = issuer.token(Some("a"), &good());
        let by_set = jwt(JwtKeys::JwksFile(file("set.json", other)), &[ours]);
        assert_eq!(user(ask(&by_set, &token, NOW as f64)).unwrap(), "ann", "{ours:?}");
    }
    let token = hmac(Algorithm::HS256, SECRET, &good());
    assert_eq!(user(ask(&by_secret(), &token, NOW as f64)).unwrap(), "ann");
}

#[test]
fn a_secret_loses_its_last_line_break_and_nothing_else() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"s3cret\n", b"s3cret"),
        (b"s3cret\r\n", b"s3cret"),
        (b" s3cret \n\n", b" s3cret \n"),
        (b"s\r", b"s\r"),
    ];
    for (contents, secret) in cases {
        let config = jwt(JwtKeys::Secret(file("secret", contents)), &[Hs256]);
        let token = hmac(Algorithm::HS256, secret, &good());
        assert!(ask(&config, &token, NOW as f64).is_ok(), "{}", contents.escape_ascii());
    }
    for empty in ["", "\n", "\r\n"] {
        let error = KeySet::secret(&file("/run/secret", empty)).unwrap_err().to_string();
        assert!(error.contains("/run/secret"), "{error}");
    }
}

#[test]
fn an_algorithm_is_the_operators_choice() {
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(good().to_string())
    );
    let rsa = Issuer::rsa();
    let pem = jwt(JwtKeys::PublicKey(file("key.pem", &rsa.public_pem)), &[Rs256]);
    // Even by an operator who lists both.
    let both = jwt(JwtKeys::PublicKey(file("key.pem", &rsa.public_pem)), &[Rs256, Hs256]);
    let mixed = set(&[rsa.jwk(Some("r"))]);
    let by_set = jwt(JwtKeys::JwksFile(file("set.json", mixed)), &[Rs256, Hs256]);
    let confused =
        |id: &str| forged(&format!(r#"{{"alg":"HS256"{id}}}"#), &good(), rsa.public_pem.as_bytes());
    let cases = [
        ("none", &by_secret(), none.clone()),
        ("none, with a key", &pem, none.clone()),
        ("None", &by_secret(), forged(r#"{"alg":"None"}"#, &good(), SECRET)),
        ("hs256", &by_secret(), forged(r#"{"alg":"hs256"}"#, &good(), SECRET)),
        ("a stronger one", &by_secret(), hmac(Algorithm::HS384, SECRET, &good())),
        ("another of the family", &pem, rsa.token_by(Algorithm::PS256, None, &good())),
        ("the public key as a secret", &pem, confused("")),
        ("the public key as a secret, HS256 listed", &both, confused("")),
        ("the public key as a secret, by id", &by_set, confused(r#","kid":"r""#)),
        ("one that nobody knows", &by_secret(), forged(r#"{"alg":"HS1024"}"#, &good(), SECRET)),
    ];
    for (name, config, token) in cases {
        assert_eq!(user(ask(config, &token, NOW as f64)), Err(AuthFailure::Algorithm), "{name}");
    }
    let listed = jwt(JwtKeys::Secret(file("secret", SECRET)), &[Hs256, Hs384]);
    assert!(ask(&listed, &hmac(Algorithm::HS384, SECRET, &good()), NOW as f64).is_ok());
}

#[test]
fn a_signature_is_over_all_of_it() {
    let token = hmac(Algorithm::HS256, SECRET, &good());
    let parts: Vec<&str> = token.split('.').collect();
    let root = URL_SAFE_NO_PAD.encode(json!({ "sub": "root", "exp": NOW + 60 }).to_string());
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT" }"#);
    let cases = [
        (hmac(Algorithm::HS256, b"another secret", &good()), AuthFailure::Signature),
        (format!("{}.{root}.{}", parts[0], parts[2]), AuthFailure::Signature),
        (format!("{head}.{}.{}", parts[1], parts[2]), AuthFailure::Signature),
        (format!("{}.{}.", parts[0], parts[1]), AuthFailure::Signature),
        (format!("{}.{}.{}", parts[0], parts[1], &parts[2][..20]), AuthFailure::Signature),
        (format!("{}.{}.!!", parts[0], parts[1]), AuthFailure::Malformed),
        (format!("{}.{}", parts[0], parts[1]), AuthFailure::Malformed),
        (format!("{token}.x"), AuthFailure::Malformed),
        (format!(".{token}"), AuthFailure::Malformed),
        (String::new(), AuthFailure::Malformed),
        ("..".into(), AuthFailure::Malformed),
        ("garbage".into(), AuthFailure::Malformed),
        (format!("{}.x.y", URL_SAFE_NO_PAD.encode("[]")), AuthFailure::Malformed),
        (format!("{}.x.y", URL_SAFE_NO_PAD.encode("{}")), AuthFailure::Malformed),
        (forged(r#"{"alg":"HS256","alg":"HS256"}"#, &good(), SECRET), AuthFailure::Malformed),
        (forged(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &good(), SECRET), AuthFailure::Malformed),
        (forged(r#"{"alg":"HS256"}"#, &json!("text"), SECRET), AuthFailure::Malformed),
        (forged(r#"{"alg":"HS256"}"#, &json!([1]), SECRET), AuthFailure::Malformed),
    ];
    for (token, expected) in cases {
        assert_eq!(user(ask(&by_secret(), &token, NOW as f64)), Err(expected), "{token}");
    }
}

#[test]
fn times_hold_to_the_leeway_and_not_beyond() {
    use AuthFailure::{Claims, Expired, NotYetValid};
    let now = NOW;
    let cases: &[(Value, f64, Result<(), AuthFailure>)] = &[
        (json!({ "exp": now }), now as f64 - 1.0, Ok(())),
        (json!({ "exp": now }), now as f64 + 29.9, Ok(())),
        (json!({ "exp": now }), now as f64 + 30.0, Err(Expired)),
        (json!({ "exp": now }), now as f64 + 31.0, Err(Expired)),
        (json!({ "exp": now as f64 + 0.5 }), now as f64 + 30.4, Ok(())),
        (json!({ "exp": now as f64 + 0.5 }), now as f64 + 30.6, Err(Expired)),
        (json!({ "exp": 0 }), now as f64, Err(Expired)),
        (json!({ "exp": u64::MAX }), now as f64, Ok(())),
        (json!({ "exp": 1e18 }), now as f64, Ok(())),
        (json!({ "exp": 1e300 }), now as f64, Err(Claims)),
        (json!({ "exp": -1 }), now as f64, Err(Claims)),
        (json!({ "exp": now.to_string() }), now as f64, Err(Claims)),
        (json!({ "exp": null }), now as f64, Err(Claims)),
        (json!({}), now as f64, Err(Claims)),
        (json!({ "exp": now + 100, "nbf": now + 30 }), now as f64, Ok(())),
        (json!({ "exp": now + 100, "nbf": now + 30 }), now as f64 - 0.1, Err(NotYetValid)),
        (json!({ "exp": now + 100, "nbf": now + 31 }), now as f64, Err(NotYetValid)),
        (json!({ "exp": now + 100, "nbf": u64::MAX }), now as f64, Err(NotYetValid)),
        (json!({ "exp": now + 100, "nbf": "soon" }), now as f64, Err(Claims)),
    ];
    for (claims, when, expected) in cases {
        let mut claims = claims.clone();
        claims["sub"] = "ann".into();
        let token = hmac(Algorithm::HS256, SECRET, &claims);
        let result = ask(&by_secret(), &token, *when).map(|_| ());
        assert_eq!(result, *expected, "{claims} at {when}");
    }
    let before_time = Rules::new(&by_secret()).check(
        hmac(Algorithm::HS256, SECRET, &good()).as_bytes(),
        &KeySet::secret(&file("secret", SECRET)).unwrap(),
        UNIX_EPOCH - Duration::from_secs(1),
    );
    assert_eq!(user(before_time), Err(NotYetValid));
}

#[test]
fn a_huge_leeway_does_no_harm() {
    let config = Jwt { leeway: Duration::MAX, ..by_secret() };
    let token = hmac(Algorithm::HS256, SECRET, &json!({ "sub": "ann", "exp": 1, "nbf": u64::MAX }));
    let user = ask(&config, &token, NOW as f64).unwrap();
    assert_eq!(user.expires, None, "it is farther than clocks go");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_token_and_the_leeway() {
    let token = |exp: u64| hmac(Algorithm::HS256, SECRET, &json!({ "sub": "ann", "exp": exp }));
    let now = Instant::now();
    let expires = |config: &Jwt, exp| ask(config, &token(exp), NOW as f64).unwrap().expires;
    let after = |seconds| Expiry::after(Duration::from_secs(seconds), now, at(NOW as f64));
    assert_eq!(expires(&by_secret(), NOW + 60), after(90));
    assert_eq!(expires(&by_secret(), NOW - 20), after(10));
    assert_eq!(expires(&by_secret(), u64::MAX), None);
    let without = Jwt { close_on_expiry: false, ..by_secret() };
    assert_eq!(expires(&without, NOW + 60), None);
}

#[test]
fn issuer_and_audience_have_to_be_there_if_they_are_asked_for() {
    use AuthFailure::{Audience, Issuer};
    let config = Jwt {
        issuer: Some("https://id.example".into()),
        audience: vec!["chat".into(), "feed".into()],
        ..by_secret()
    };
    let cases = [
        (json!({ "iss": "https://id.example", "aud": "chat" }), Ok(())),
        (json!({ "iss": "https://id.example", "aud": ["x", "feed"] }), Ok(())),
        (json!({ "iss": "https://id.example/", "aud": "chat" }), Err(Issuer)),
        (json!({ "aud": "chat" }), Err(Issuer)),
        (json!({ "iss": 7, "aud": "chat" }), Err(Issuer)),
        (json!({ "iss": "https://id.example", "aud": "chats" }), Err(Audience)),
        (json!({ "iss": "https://id.example", "aud": [] }), Err(Audience)),
        (json!({ "iss": "https://id.example" }), Err(Audience)),
        (json!({ "iss": "https://id.example", "aud": 7 }), Err(Audience)),
    ];
    for (claims, expected) in cases {
        let mut all = claims.clone();
        all["sub"] = "ann".into();
        all["exp"] = (NOW + 60).into();
        let token = hmac(Algorithm::HS256, SECRET, &all);
        assert_eq!(ask(&config, &token, NOW as f64).map(|_| ()), expected, "{claims}");
        assert!(ask(&by_secret(), &token, NOW as f64).is_ok(), "nobody asked: {claims}");
    }
}

#[test]
fn a_user_is_a_name_that_can_travel_in_a_header() {
    use AuthFailure::{Claims, User};
    let long = "x".repeat(256);
    let too_long = "x".repeat(257);
    let cases = [
        (json!("ann@example.com"), Ok("ann@example.com")),
        (json!(12345), Ok("12345")),
        (json!(-5), Ok("-5")),
        (json!(u64::MAX), Ok("18446744073709551615")),
        (json!(long), Ok(long.as_str())),
        (json!(too_long), Err(User)),
        (json!(""), Err(User)),
        (json!("a b"), Err(User)),
        (json!("ann\r\nX-Admin: 1"), Err(User)),
        (json!("\u{e4}nn"), Err(User)),
        (json!(1.5), Err(User)),
        (json!(true), Err(User)),
        (json!(["ann"]), Err(User)),
        (json!(null), Err(User)),
    ];
    let config = Jwt { user_claim: "email".into(), ..by_secret() };
    for (claim, expected) in cases {
        let token = hmac(Algorithm::HS256, SECRET, &json!({ "sub": "x", "exp": NOW, "email": claim }));
        let found = user(ask(&config, &token, NOW as f64));
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{claim}");
    }
    let nobody = hmac(Algorithm::HS256, SECRET, &json!({ "sub": "x", "exp": NOW }));
    assert_eq!(user(ask(&config, &nobody, NOW as f64)), Err(Claims));
}

#[test]
fn a_key_is_chosen_by_its_id_or_because_it_is_the_only_one() {
    use AuthFailure::{Algorithm as WrongAlgorithm, Signature, UnknownKey};
    let (rsa, one, two, ed) = (Issuer::rsa(), Issuer::p256(), Issuer::p256(), Issuer::ed25519());
    let keys = set(&[
        rsa.jwk(Some("r")),
        one.jwk(Some("1")),
        two.jwk(Some("2")),
        ed.jwk(None),
        // Of no use: passed over.
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short" }),
        json!({ "kty": "oct", "k": "", "kid": "empty" }),
        json!({ "kty": "new", "kid": "n" }),
        json!("no object"),
    ]);
    let config = jwt(JwtKeys::JwksFile(file("set.json", keys)), &[Rs256, Es256, EdDsa]);
    let ps = rsa.token_by(Algorithm::PS256, Some("r"), &good());
    let cases = [
        ("by id", one.token(Some("1"), &good()), Ok("ann")),
        ("by another id", two.token(Some("2"), &good()), Ok("ann")),
        ("the only RSA key", rsa.token(None, &good()), Ok("ann")),
        ("the only Ed25519 key", ed.token(None, &good()), Ok("ann")),
        ("one of two", one.token(None, &good()), Err(UnknownKey)),
        ("somebody else's id", one.token(Some("2"), &good()), Err(Signature)),
        ("an id of another kind", one.token(Some("r"), &good()), Err(WrongAlgorithm)),
        ("an id that nobody has", one.token(Some("3"), &good()), Err(UnknownKey)),
        ("an empty id", one.token(Some(""), &good()), Err(UnknownKey)),
        ("a key that is too short", rsa.token(Some("short"), &good()), Err(UnknownKey)),
        ("not listed", ps, Err(WrongAlgorithm)),
    ];
    for (name, token, expected) in cases {
        let found = user(ask(&config, &token, NOW as f64));
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{name}");
    }
    // A key for encryption is none for signatures; one that is for PS256 is not for RS256.
    for (field, value) in [("use", json!("enc")), ("key_ops", json!(["encrypt"])), ("alg", json!("PS256"))] {
        let mut jwk = rsa.jwk(Some("r"));
        jwk[field] = value;
        assert!(KeySet::from_json(set(&[jwk]).as_bytes(), &[Rs256]).is_err(), "{field}");
    }
}

#[test]
fn files_that_hold_no_key_are_told_by_name() {
    let (rsa, p256) = (Issuer::rsa(), Issuer::p256());
    let cut = &rsa.public_pem[..rsa.public_pem.len() / 2];
    let cases = [
        (rsa.private_pem.as_str(), "private key"),
        ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "certificate"),
        (cut, "not the PEM"),
        ("", "not the PEM"),
        (p256.public_pem.as_str(), "none of policy.auth.jwt.algorithms"),
    ];
    for (contents, word) in cases {
        let error = KeySet::public(&file("/etc/key.pem", contents), &[Rs256]).unwrap_err().to_string();
        assert!(error.contains("/etc/key.pem") && error.contains(word), "{error}");
    }
    let sets = ["", "{}", "[]", r#"{"keys":[]}"#, r#"{"keys":{}}"#, &set(&[p256.jwk(None)])];
    for contents in sets {
        assert!(KeySet::from_json(contents.as_bytes(), &[Rs256]).is_err(), "{contents}");
    }
    let many = vec![rsa.jwk(None); 129];
    assert!(KeySet::from_json(set(&many).as_bytes(), &[Rs256]).unwrap_err().contains("128"));
}

/// Not a test: `cargo test --release --lib -- --ignored --nocapture what_a_check_costs`.
#[test]
#[ignore = "measures"]
fn what_a_check_costs() {
    let claims = json!({ "sub": "ann@example.com", "exp": NOW + 60, "iat": NOW, "iss": "https://id.example", "aud": "chat" });
    let rsa = Issuer::rsa();
    let issuer = Issuer::p256();
    let secret =
        Jwt { issuer: Some("https://id.example".into()), audience: vec!["chat".into()], ..by_secret() };
    let cases = [
        (
            "HS256",
            KeySet::secret(&file("s", SECRET)).unwrap(),
            secret.clone(),
            hmac(Algorithm::HS256, SECRET, &claims),
        ),
        (
            "RS256",
            KeySet::public(&file("k", &rsa.public_pem), &[Rs256]).unwrap(),
            Jwt { algorithms: vec![Rs256], ..secret.clone() },
            rsa.token(None, &claims),
        ),
        (
            "ES256",
            KeySet::public(&file("k", &issuer.public_pem), &[Es256]).unwrap(),
            Jwt { algorithms: vec![Es256], ..secret },
            issuer.token(None, &claims),
        ),
    ];
    for (name, keys, config, token) in cases {
        let rules = Rules::new(&config);
        let rounds = 50_000;
        let since = Instant::now();
        for _ in 0..rounds {
            assert!(rules.check(token.as_bytes(), &keys, at(NOW as f64)).is_ok());
        }
        println!("{name}: {:?} a token of {} bytes", since.elapsed() / rounds, token.len());
    }
}

#[test]
fn what_other_keys_could_change_is_told_from_what_they_could_not() {
    let (rsa, ec) = (Issuer::rsa(), Issuer::p256());
    let config = |key: Value| jwt(JwtKeys::JwksFile(file("set.json", set(&[key]))), &[Rs256, Es256]);
    let (old, new) = (config(rsa.jwk(Some("main"))), config(ec.jwk(Some("main"))));
    let asked = |config: &Jwt, token: &str| {
        let failure = ask(config, token, NOW as f64).err().unwrap();
        (failure, Rules::new(config).may_change(failure, token.as_bytes()))
    };
    // The key was replaced under its own id, by one of another kind.
    let token = ec.token(Some("main"), &good());
    assert!(ask(&new, &token, NOW as f64).is_ok());
    assert_eq!(asked(&old, &token), (AuthFailure::Algorithm, true));
    let forged = rsa.token_by(Algorithm::RS256, Some("main"), &good());
    let (message, _) = forged.rsplit_once('.').unwrap();
    assert_eq!(
        asked(&old, &format!("{message}.{}", URL_SAFE_NO_PAD.encode([7; 256]))),
        (AuthFailure::Signature, true)
    );
    assert_eq!(asked(&old, &ec.token(Some("other"), &good())), (AuthFailure::UnknownKey, true));
    // Nobody may use it, whatever keys there are.
    let never = rsa.token_by(Algorithm::PS256, Some("main"), &good());
    assert_eq!(asked(&old, &never), (AuthFailure::Algorithm, false));
    let expired = rsa.token_by(Algorithm::RS256, Some("main"), &json!({ "sub": "ann", "exp": NOW - 60 }));
    assert_eq!(asked(&old, &expired), (AuthFailure::Expired, false));
    assert_eq!(asked(&old, "no token"), (AuthFailure::Malformed, false));
}
