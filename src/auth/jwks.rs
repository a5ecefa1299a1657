//! JSON Web Key Sets (RFC 7517): several keys in one file, by name.

use super::keys::{Fault, Key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

const REMEDY: &str = "give a JWKS such as {\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"…\"}]}";

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The members that say what a key is and is for (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<Box<str>>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

/// The keys of a JWKS or of a single JWK that can check tokens.
///
/// # Errors
/// Not JSON, no key that is served, or one of a kind that is served and cannot be read.
pub(super) fn parse(text: &str) -> Result<Vec<Key>, Fault> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        // The position only: the message could show some of a secret.
        (format!("not JSON, at line {} column {}", error.line(), error.column()), REMEDY)
    })?;
    let members = if value.get("kty").is_some() {
        vec![value]
    } else {
        Set::deserialize(value).map_err(|_| ("JSON without a list of keys".to_owned(), REMEDY))?.keys
    };
    let mut keys = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let number = index + 1;
        let jwk = Jwk::deserialize(member)
            .map_err(|_| (format!("key {number} is not a JWK, or has a member of a wrong type"), REMEDY))?;
        keys.extend(key(jwk).map_err(|(problem, remedy)| (format!("key {number}: {problem}"), remedy))?);
    }
    match keys.is_empty() {
        true => Err(("no key that can check a token by HS256, RS256, ES256 or EdDSA".to_owned(), REMEDY)),
        false => Ok(keys),
    }
}

/// A key, or `None` for one that is not for checking signatures by an algorithm that is served.
fn key(jwk: Jwk) -> Result<Option<Key>, Fault> {
    let encrypts = jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
        || jwk.key_ops.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify"));
    // The type and the curve pin the algorithm; an `alg` may only agree.
    let algorithm = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("oct", _) => "HS256",
        ("RSA", _) => "RS256",
        ("EC", Some("P-256")) => "ES256",
        ("OKP", Some("Ed25519")) => "EdDSA",
        _ => return Ok(None),
    };
    // RFC 9864 has a name of its own for EdDSA on Ed25519; tokens with it are not served, their keys are the same.
    let agrees = |alg: &str| alg == algorithm || (algorithm == "EdDSA" && alg == "Ed25519");
    if encrypts || !jwk.alg.as_deref().is_none_or(agrees) {
        return Ok(None);
    }
    if jwk.d.is_some() {
        return Err(("a private key, which a server that only checks tokens need not know".to_owned(), REMEDY));
    }
    if jwk.kid.as_deref().is_some_and(str::is_empty) {
        return Err(("an empty kid".to_owned(), "give it a name or leave it out"));
    }
    let name = jwk.kid;
    match algorithm {
        "HS256" => Key::secret(name, &bytes("k", jwk.k)?),
        "RS256" => Key::rsa(name, &bytes("n", jwk.n)?, &bytes("e", jwk.e)?),
        "ES256" => {
            let (x, y) = (bytes("x", jwk.x)?, bytes("y", jwk.y)?);
            if x.len() != 32 || y.len() != 32 {
                return Err(("x and y of P-256 have 32 bytes each".to_owned(), REMEDY));
            }
            Key::p256(name, &[&[4], &x[..], &y[..]].concat())
        }
        _ => Key::ed25519(name, &bytes("x", jwk.x)?),
    }
    .map(Some)
}

fn bytes(member: &str, value: Option<String>) -> Result<Vec<u8>, Fault> {
    let value = value.ok_or_else(|| (format!("{member} is missing"), REMEDY))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| (format!("{member} is not base64url without padding"), REMEDY))
}

/// The secret of the only `oct` key in a JWKS, or of the one with this `kid`, for `fanfare token`.
///
/// # Errors
/// There is none, or it is not clear which.
pub(super) fn secret(text: &str, kid: Option<&str>) -> Result<(Option<Box<str>>, Vec<u8>), Fault> {
    parse(text)?;
    let value: serde_json::Value = serde_json::from_str(text).expect("it was parsed a line above");
    let members = match value.get("keys") {
        Some(keys) => keys.as_array().cloned().unwrap_or_default(),
        None => vec![value],
    };
    let keys = members.into_iter().filter_map(|member| Jwk::deserialize(member).ok());
    let mut fitting = keys.filter(|jwk| jwk.kty == "oct" && (kid.is_none() || jwk.kid.as_deref() == kid));
    match (fitting.next(), fitting.next()) {
        (Some(jwk), None) => Ok((jwk.kid, bytes("k", jwk.k)?)),
        (None, _) => Err(("no secret (oct) that fits".to_owned(), "give a private key in PEM, or another --kid")),
        _ => Err(("several secrets (oct)".to_owned(), "say which by --kid")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Algorithm, Keys};
    use super::*;
    use serde_json::{Value, json};

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn parsed(value: &Value) -> Result<Keys, String> {
        Keys::parse(value.to_string().as_bytes()).map_err(|(problem, _)| problem)
    }

    fn ed(changes: Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": X});
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    #[test]
    fn keys_for_other_purposes_are_passed_over() {
        let others = [
            json!({"kty": "RSA", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "RSA", "alg": "PS256", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "EC", "crv": "P-384", "x": "", "y": ""}),
            json!({"kty": "OKP", "crv": "X25519", "x": X}),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": ""}),
            json!({"kty": "oct", "alg": "HS512", "k": X}),
            ed(json!({"use": "enc"})),
            ed(json!({"key_ops": ["sign"]})),
        ];
        let mut all = others.to_vec();
        all.push(ed(json!({"use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "x5t": "?"})));
        assert_eq!(parsed(&json!({"keys": all, "extra": 1})).map(|keys| keys.count()), Ok(1));
        assert!(parsed(&json!({"keys": others})).unwrap_err().contains("no key that can check"));
        assert_eq!(parsed(&ed(json!({}))).map(|keys| keys.algorithms()), Ok("EdDSA".to_owned()));
    }

    #[test]
    fn keys_that_cannot_be_are_refused_with_their_number() {
        let zeros = "A".repeat(43);
        let odd = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        for (key, says) in [
            (ed(json!({"x": "AAAA"})), "Ed25519"),
            (ed(json!({"x": format!("{X}AAAA")})), "Ed25519"),
            (ed(json!({"x": format!("{X}=")})), "base64url"),
            (json!({"kty": "OKP", "crv": "Ed25519"}), "x is missing"),
            (ed(json!({"d": X})), "private"),
            (ed(json!({"kid": ""})), "empty kid"),
            (ed(json!({"kid": 7})), "wrong type"),
            (json!({"kty": "EC", "crv": "P-256", "x": zeros, "y": zeros}), "point on P-256"),
            (json!({"kty": "EC", "crv": "P-256", "x": zeros, "y": "AA"}), "32 bytes"),
            (json!({"kty": "oct", "k": "AAAA"}), "guessed"),
            (json!({"kty": "RSA", "n": odd(255), "e": "AQAB"}), "2040 bits"),
            (json!({"kty": "RSA", "n": odd(513), "e": "AQAB"}), "4104 bits"),
            (json!({"kty": "RSA", "n": odd(256), "e": "AQ"}), "cannot be"),
            (json!({"kty": "RSA", "n": odd(256), "e": "Ag"}), "cannot be"),
            (json!({"kty": "RSA", "n": odd(256), "e": ""}), "cannot be"),
            (json!("a"), "not a JWK"),
        ] {
            let problem = parsed(&json!({"keys": [ed(json!({"kid": "first"})), key]})).unwrap_err();
            assert!(problem.starts_with("key 2: ") || problem.starts_with("key 2 "), "{problem}");
            assert!(problem.contains(says), "{says:?}: {problem}");
        }
        for (value, says) in
            [(json!({}), "list of keys"), (json!([1]), "list of keys"), (json!({"keys": []}), "no key")]
        {
            assert!(parsed(&value).unwrap_err().contains(says));
        }
        let (problem, _) = Keys::parse(b"{\"keys\":\n hunter2}").unwrap_err();
        assert!(problem.contains("line 2") && !problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn names_are_unique_for_an_algorithm() {
        let secret = json!({"kty": "oct", "kid": "a", "k": X});
        assert_eq!(parsed(&json!({"keys": [ed(json!({})), secret]})).map(|keys| keys.count()), Ok(2));
        assert!(parsed(&json!({"keys": [ed(json!({})), ed(json!({}))]})).unwrap_err().contains("same kid"));
        let many: Vec<Value> = (0..101).map(|number| ed(json!({"kid": number.to_string()}))).collect();
        assert!(parsed(&json!({"keys": many})).unwrap_err().contains("101 keys"));
    }

    #[test]
    fn a_name_picks_its_key_and_without_one_all_are_tried() {
        let count = |keys: &Keys, name| keys.candidates(Some(Algorithm::EdDsa), name).map_or(0, Iterator::count);
        let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        let two = parsed(&json!({"keys": [ed(json!({"kid": "a"})), ed(json!({"kid": "b"}))]})).unwrap();
        assert_eq!([count(&two, Some("a")), count(&two, Some("c")), count(&two, None)], [1, 0, 2]);
        let mixed = parsed(&json!({"keys": [ed(json!({"kid": "a"})), unnamed]})).unwrap();
        assert_eq!([count(&mixed, Some("a")), count(&mixed, Some("c")), count(&mixed, None)], [1, 1, 2]);
    }
}
