//! Tokens, as issuers sign them and as attackers forge them, against the keys of a file.

mod command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::auth::{Keys, Rights, Token, TokenError, Watcher};
use fanfare::wire::status::Status;
use fanfare::wire::topic::Topic;
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Unix seconds of the tests' present.
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than 32 bytes, for tests";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

/// A key file of this content.
fn keys(content: impl AsRef<[u8]>) -> Keys {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, content).unwrap();
    Keys::load(&path).unwrap()
}

fn verify(token: &str, keys: &Keys) -> Result<Rights, TokenError> {
    Token(token).verify(keys, NOW * 1000)
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

fn claims() -> Value {
    json!({
        "sub": "ana", "iat": NOW, "exp": NOW + 60, "aud": "x", "nested": {"exp": 1},
        "fanfare": {"subscribe": ["live:*", "chat:7"], "publish": ["live:42"]},
    })
}

/// An algorithm, its private key, its file for verifying, and its name in the JWKS.
fn signers() -> Vec<(jsonwebtoken::Algorithm, EncodingKey, Vec<u8>, &'static str)> {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, HS256, RS256};
    vec![
        (HS256, EncodingKey::from_secret(SECRET.as_bytes()), format!("{SECRET}\n").into_bytes(), "secret"),
        (RS256, EncodingKey::from_rsa_pem(&bytes("rsa.pem")).unwrap(), bytes("rsa.pub.pem"), "rsa"),
        (ES256, EncodingKey::from_ec_pem(&bytes("ec.pem")).unwrap(), bytes("ec.pub.pem"), "ec"),
        (EdDSA, EncodingKey::from_ed_pem(&bytes("ed.pem")).unwrap(), bytes("ed.pub.pem"), "ed"),
    ]
}

fn signed(algorithm: jsonwebtoken::Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// A token by the secret, with any header and payload.
fn raw(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn by_secret(claims: &Value) -> Result<Rights, TokenError> {
    verify(&raw(r#"{"alg":"HS256"}"#, &claims.to_string()), &keys(SECRET))
}

/// The claims with some of them set, or taken out by `null`.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

#[test]
fn every_algorithm_verifies_by_its_file_and_by_a_jwks() {
    let set = Keys::load(&file("jwks.json")).unwrap();
    assert_eq!((set.count(), set.algorithms().as_str()), (4, "HS256, RS256, ES256, EdDSA"));
    for (algorithm, key, content, kid) in signers() {
        for (keys, kid) in [(&keys(&content), None), (&keys(&content), Some("x")), (&set, Some(kid)), (&set, None)] {
            let rights = verify(&signed(algorithm, &key, kid, &claims()), keys).unwrap();
            assert_eq!(rights.sub.as_deref(), Some("ana"));
            assert_eq!(rights.expires_at_ms, Some((NOW + 60) * 1000));
            assert!(rights.may_subscribe(&topic("live:42")) && rights.may_subscribe(&topic("chat:7")));
            assert!(rights.may_publish(&topic("live:42")) && !rights.may_publish(&topic("live:43")));
        }
    }
}

#[test]
fn examples_of_rfc_7515_verify() {
    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let hs256 = json!({"kty": "oct",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"});
    let es256 = json!({"keys": [{"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    for (key, header, signature) in [
        (hs256, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        (
            es256,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let (keys, token) = (keys(key.to_string()), format!("{header}.{PAYLOAD}.{signature}"));
        let rights = Token(&token).verify(&keys, 1_300_819_380_000).unwrap();
        assert!(rights.sub.is_none() && rights.subscribe.is_empty() && rights.publish.is_empty());
        assert_eq!(Token(&token).verify(&keys, 1_300_819_391_000), Err(TokenError::Expired(11)));
    }
}

#[test]
fn another_key_of_the_same_kind_is_a_bad_signature() {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, HS256, RS256};
    let set = Keys::load(&file("jwks.json")).unwrap();
    for (algorithm, key, kid) in [
        (HS256, EncodingKey::from_secret(&[b'x'; 32]), "secret"),
        (RS256, EncodingKey::from_rsa_pem(&bytes("rsa-other.pem")).unwrap(), "rsa"),
        (ES256, EncodingKey::from_ec_pem(&bytes("ec-other.pem")).unwrap(), "ec"),
        (EdDSA, EncodingKey::from_ed_pem(&bytes("ed-other.pem")).unwrap(), "ed"),
    ] {
        assert_eq!(verify(&signed(algorithm, &key, Some(kid), &claims()), &set), Err(TokenError::BadSignature));
        assert_eq!(verify(&signed(algorithm, &key, None, &claims()), &set), Err(TokenError::BadSignature));
        assert_eq!(verify(&signed(algorithm, &key, Some("?"), &claims()), &set), Err(TokenError::UnknownKey));
    }
}

#[test]
fn a_token_that_was_changed_or_cut_does_not_verify() {
    for (algorithm, key, content, _) in signers() {
        let (token, keys) = (signed(algorithm, &key, None, &claims()), keys(content));
        assert!(verify(&token, &keys).is_ok());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, payload) = message.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(with(json!({"sub": "eve"})).to_string());
        let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
        for forged in [
            format!("{header}.{other}.{signature}"),
            format!("{header}.{payload}."),
            format!("{header}.{payload}.{zeros}"),
            format!("{header}.{payload}.{signature}A"),
            format!("{header}.{payload}.{signature}=="),
            format!("{header}.{payload}.{}", &signature[..signature.len() - 2]),
            format!("{header}.{payload}.!"),
        ] {
            assert_eq!(verify(&forged, &keys), Err(TokenError::BadSignature), "{algorithm:?} {forged}");
        }
        for forged in [
            format!("{token}.{signature}"),
            message.to_owned(),
            format!(".{payload}.{signature}"),
            format!("{header}=.{payload}.{signature}"),
            format!(" {token}"),
        ] {
            assert!(matches!(verify(&forged, &keys), Err(TokenError::Malformed(_))), "{algorithm:?} {forged}");
        }
    }
}

#[test]
fn unsigned_tokens_and_other_algorithms_are_refused() {
    for (_, _, content, _) in signers() {
        let keys = keys(content);
        for name in
            ["none", "None", "NONE", "", "HS384", "HS512", "RS384", "PS256", "ES384", "ES256K", "hs256", "eddsa"]
        {
            let token = raw(&json!({"alg": name, "typ": "JWT"}).to_string(), &claims().to_string());
            let (message, _) = token.rsplit_once('.').unwrap();
            for token in [&token, &format!("{message}.")] {
                let error = verify(token, &keys).unwrap_err();
                assert_eq!(error, TokenError::WrongAlgorithm(keys.algorithms().into()), "{name}");
                assert_eq!(error.status().code(), 401);
            }
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for name in ["rsa.pub.pem", "ec.pub.pem", "ed.pub.pem"] {
        let (content, keys) = (bytes(name), Keys::load(&file(name)).unwrap());
        let der = pem_content(&content);
        // All the forms in which an attacker may have guessed that a server uses the key as a secret.
        for secret in [&content[..], content.trim_ascii(), &der] {
            let key = EncodingKey::from_secret(secret);
            for kid in [None, Some("rsa")] {
                let token = signed(jsonwebtoken::Algorithm::HS256, &key, kid, &claims());
                assert!(matches!(verify(&token, &keys), Err(TokenError::WrongAlgorithm(_))), "{name}");
            }
        }
        // And the file that would make it true is refused: the key without the lines of PEM, or in DER.
        for content in [der.clone(), base64::engine::general_purpose::STANDARD.encode(&der).into_bytes()] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            std::fs::write(&path, content).unwrap();
            let error = Keys::load(&path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains("openssl pkey -pubout"), "{error}");
        }
    }
    // With a set, a token may name a key of another kind than its algorithm.
    let set = Keys::load(&file("jwks.json")).unwrap();
    let key = EncodingKey::from_secret(&bytes("rsa.pub.pem"));
    let token = signed(jsonwebtoken::Algorithm::HS256, &key, Some("rsa"), &claims());
    assert_eq!(verify(&token, &set), Err(TokenError::UnknownKey));
}

fn pem_content(pem: &[u8]) -> Vec<u8> {
    let text: String = std::str::from_utf8(pem).unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn times_count_with_five_seconds_of_leeway() {
    let at = |changes| by_secret(&with(changes)).map(|_| ());
    assert_eq!(at(json!({"exp": NOW - 4})), Ok(()));
    assert_eq!(at(json!({"exp": NOW - 5})), Err(TokenError::Expired(5)));
    assert_eq!(at(json!({"exp": 0})), Err(TokenError::Expired(NOW)));
    assert_eq!(at(json!({"exp": (NOW - 5) as f64 + 0.5})), Ok(()));
    let ten_years = 3653 * 24 * 60 * 60;
    assert_eq!(at(json!({"exp": NOW + ten_years})), Ok(()));
    for far in [json!(NOW + ten_years + 1), json!((NOW + 60) * 1000), json!(u64::MAX), json!(1e300)] {
        let error = at(json!({"exp": far})).unwrap_err().to_string();
        assert!(error.contains("10 years") && error.contains("milliseconds"), "{error}");
    }
    assert_eq!(at(json!({"nbf": NOW + 5})), Ok(()));
    assert_eq!(at(json!({"nbf": NOW + 6})), Err(TokenError::NotYetValid(6)));
    assert_eq!(at(json!({"nbf": u64::MAX})), Err(TokenError::NotYetValid(u64::MAX / 1000 + 1 - NOW)));
}

#[test]
fn claims_that_will_not_do_are_named() {
    let long = "x".repeat(129);
    for (changes, named) in [
        (json!({"exp": null}), "exp is missing"),
        (json!({"exp": "1900000000"}), "exp"),
        (json!({"exp": -1}), "exp"),
        (json!({"exp": [1]}), "exp"),
        (json!({"nbf": "soon"}), "nbf"),
        (json!({"nbf": true}), "nbf"),
        (json!({"iat": "now"}), "iat"),
        (json!({"jti": 7}), "jti"),
        (json!({"jti": ""}), "jti"),
        (json!({"sub": ""}), "sub"),
        (json!({"sub": 7}), "sub"),
        (json!({"sub": "a\nb"}), "sub"),
        (json!({"sub": "a\u{85}b"}), "sub"),
        (json!({"sub": long}), "sub"),
        (json!({"sub": "ü".repeat(33)}), "user:{sub}"),
        (json!({"fanfare": {"subscribe": "live:*"}}), "list"),
        (json!({"fanfare": {"publish": [7]}}), "list"),
        (json!({"fanfare.publish": {"live:42": true}, "fanfare": null}), "list"),
        (json!({"fanfare": {"subscribe": ["live:*2"]}}), "*"),
        (json!({"fanfare": {"publish": ["*:42"]}}), "*"),
        (json!({"fanfare": {"publish": ["live"]}}), "kind:id"),
        (json!({"fanfare.subscribe": ["live:42"]}), "both"),
    ] {
        let error = by_secret(&with(changes.clone())).unwrap_err();
        assert!(matches!(error, TokenError::Claim(text) if text.contains(named)), "{changes} {error}");
        assert_eq!(error.status().code(), 401);
    }
    // A null is not an absence.
    for name in ["sub", "exp", "nbf", "fanfare.subscribe"] {
        let mut claims = with(json!({"fanfare": null}));
        claims[name] = Value::Null;
        assert!(matches!(by_secret(&claims), Err(TokenError::Claim(_))), "{name}");
    }
}

#[test]
fn rights_come_nested_or_dotted_or_not_at_all() {
    // Two tokens are never the same one, whatever they allow.
    let read = |claims: &Value| {
        let mut rights = by_secret(claims).unwrap();
        rights.token = None;
        rights
    };
    let dotted = json!({"fanfare": null, "fanfare.subscribe": ["live:*", "chat:7"], "fanfare.publish": ["live:42"]});
    assert_eq!(read(&with(dotted)), read(&claims()));
    let mixed = json!({"fanfare": {"subscribe": ["live:*", "chat:7"]}, "fanfare.publish": ["live:42"]});
    assert_eq!(read(&with(mixed)), read(&claims()));
    let none = by_secret(&with(json!({"fanfare": null, "sub": null}))).unwrap();
    assert!(none.sub.is_none() && !none.may_subscribe(&topic("live:42")) && !none.may_publish(&topic("live:42")));
    let error = none.require_publish(&topic("live:42")).unwrap_err();
    assert_eq!(
        (error.status(), error.detail().as_str()),
        (Status::Forbidden, "the token lacks the right fanfare.publish on live:42")
    );
    assert_eq!(none.require_subscribe(&topic("live:42")).unwrap_err().status().code(), 403);
    // Escapes in JSON are the issuer's own spelling; a percent-encoded unreserved character is that character (RFC 3986,
    // section 6.2.2.2), another one is not.
    let escaped = raw(r#"{"alg":"HS256"}"#, r#"{"exp":1800000060,"fanfare":{"subscribe":["live:\u0034\u0032"]}}"#);
    let rights = verify(&escaped, &keys(SECRET)).unwrap();
    assert!(rights.may_subscribe(&topic("live:42")) && rights.may_subscribe(&topic("live:%34%32")));
    assert!(!rights.may_subscribe(&topic("live:42%2F")));
}

#[test]
fn what_is_no_token_is_malformed() {
    let keys = keys(SECRET);
    let payload = claims().to_string();
    let header = r#"{"alg":"HS256"}"#;
    for token in ["", ".", "..", "...", "a", "a.b.c", "null", "e30.e30.e30", "\u{1f389}.\u{1f389}.\u{1f389}"] {
        assert!(matches!(verify(token, &keys), Err(TokenError::Malformed(_))), "{token}");
    }
    for header in [
        "null",
        "[]",
        r#"["HS256"]"#,
        r#"{"alg":7}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256"} x"#,
    ] {
        assert!(matches!(verify(&raw(header, &payload), &keys), Err(TokenError::Malformed(_))), "{header}");
    }
    for payload in [
        "null",
        "7",
        r#"["ana",1800000060]"#,
        r#"{"exp":1800000060,"exp":1900000000}"#,
        r#"{"exp":1800000060,"sub":"ana","sub":"eve"}"#,
        r#"{"exp":1800000060,"fanfare":[["live:*"]]}"#,
        r#"{"exp":1800000060,"fanfare":{"subscribe":[],"subscribe":["*"]}}"#,
        r#"{"exp":1800000060"#,
    ] {
        assert!(matches!(verify(&raw(header, payload), &keys), Err(TokenError::Malformed(_))), "{payload}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let set: Value = serde_json::from_slice(&bytes("jwks.json")).unwrap();
    let header = json!({"alg": "HS256", "jwk": set["keys"][3], "jku": "http://127.0.0.1:1/", "x5c": ["AA"]});
    let token = raw(&header.to_string(), &claims().to_string());
    assert_eq!(verify(&token, &keys([b'x'; 32])), Err(TokenError::BadSignature));
}

#[test]
fn a_token_is_bounded_before_it_is_looked_at() {
    let sized = |extra: usize| {
        raw(r#"{"alg":"HS256"}"#, &with(json!({"fanfare": {"subscribe": []}, "x": "x".repeat(extra)})).to_string())
    };
    let keys = keys(SECRET);
    let fits = (5_900..6_200).rev().map(sized).find(|token| token.len() <= 8192).unwrap();
    assert!(fits.len() > 8188 && verify(&fits, &keys).is_ok());
    let over = sized(6_200);
    assert!(over.len() > 8192);
    assert_eq!(verify(&over, &keys), Err(TokenError::Oversized));
    assert_eq!(verify(&".".repeat(8193), &keys), Err(TokenError::Oversized));
}

#[test]
fn no_error_shows_anything_of_the_token() {
    let marker = "Hunter2";
    for payload in [
        json!({"exp": marker}),
        json!({"exp": NOW + 9, "sub": format!("{marker}\n")}),
        json!({"exp": NOW + 9, "fanfare": {"subscribe": [format!("{marker}*{marker}")]}}),
        json!({"exp": NOW + 9, "fanfare": marker}),
    ] {
        let error = by_secret(&payload).unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.www_authenticate()).contains(marker), "{error:?}");
    }
    let token = raw(&json!({"alg": marker, "kid": marker}).to_string(), "{}");
    let error = verify(&token, &keys(SECRET)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(marker));
    assert!(!format!("{:?}", Token(&token)).contains(&token[..8]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn noise_is_refused_and_never_panics(
        text in "\\PC{0,200}",
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 3),
    ) {
        let set = Keys::load(&file("jwks.json")).unwrap();
        prop_assert!(verify(&text, &set).is_err());
        let parts: Vec<String> = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
        prop_assert!(verify(&parts.join("."), &set).is_err());
        for (algorithm, kid) in [("HS256", "secret"), ("ES256", "ec"), ("EdDSA", "ed"), ("RS256", "rsa")] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "kid": kid}).to_string());
            let token = format!("{header}.{}.{}", parts[1], parts[2]);
            prop_assert_eq!(verify(&token, &set), Err(TokenError::BadSignature));
        }
    }

    #[test]
    fn signed_noise_gives_no_rights_that_it_does_not_spell(
        payload in "\\PC{0,60}|\\{\"exp\":[0-9a-z\".-]{1,12}(,\"sub\":[0-9a-z\"\\\\]{1,8})?(,\"fanfare\":[\\[\\]{}a-z\":,*]{1,20})?\\}",
    ) {
        if let Ok(rights) = verify(&raw(r#"{"alg":"HS256"}"#, &payload), &keys(SECRET)) {
            let claims: Value = serde_json::from_str(&payload).unwrap();
            prop_assert!(claims["exp"].as_f64().unwrap() > (NOW - 5) as f64);
            prop_assert_eq!(rights.sub.as_deref(), claims["sub"].as_str());
        }
    }
}

/// Waits until `holds`; the file is looked at every second.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn keys_rotate_while_the_watcher_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let oct = |kid: &str, secret: &[u8]| json!({"kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret)});
    let (old, new) = ([b'o'; 32], [b'n'; 32]);
    let write = |keys: Value| {
        // As tools that rotate keys do: a new file in the place of the old one.
        let next = folder.path().join("next");
        std::fs::write(&next, json!({ "keys": keys }).to_string()).unwrap();
        std::fs::rename(&next, &path).unwrap();
    };
    let hs256 = jsonwebtoken::Algorithm::HS256;
    let by_old = signed(hs256, &EncodingKey::from_secret(&old), Some("old"), &claims());
    let by_new = signed(hs256, &EncodingKey::from_secret(&new), Some("new"), &claims());

    write(json!([oct("old", &old)]));
    let watcher = Watcher::start(&path).unwrap();
    let shared = watcher.keys();
    let holds = |token: &str| verify(token, &shared.load()).is_ok();
    assert!(holds(&by_old) && !holds(&by_new));

    write(json!([oct("old", &old), oct("new", &new)]));
    eventually("the second key", || holds(&by_new));
    assert!(holds(&by_old));

    write(json!([oct("new", &new)]));
    eventually("the end of the first key", || !holds(&by_old));
    assert!(holds(&by_new));
    assert_eq!(verify(&by_old, &shared.load()), Err(TokenError::UnknownKey));
    drop(watcher);
    assert!(holds(&by_new));
}
