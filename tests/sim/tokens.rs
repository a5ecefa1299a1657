//! Tokens, as an issuer makes them for clients.

use std::time::Duration;

use fanfare::auth::watch::Shared;
use fanfare::auth::{Keys, Terms};
use fanfare::ground::access::Tokens;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::UNIX;

/// The file of what nodes check tokens by.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/secret");
const SECRET: &str = include_str!("secret");

/// What nodes check tokens by.
pub fn checked() -> Tokens {
    Tokens {
        keys: Shared::new(Keys::load(FILE.as_ref()).expect("the secret will do")),
        cookie: None,
        terms: Terms::default(),
        refetch: None,
    }
}

/// A token that ends at a time of the world, given in whole seconds.
pub fn token(member: Option<&str>, subscribe: &[String], publish: &[&str], ends: u64) -> String {
    let exp = (UNIX + Duration::from_nanos(ends)).as_secs();
    let mut claims = json!({"exp": exp, "fanfare": {"subscribe": subscribe, "publish": publish}});
    if let Some(member) = member {
        claims["sub"] = json!(member);
    }
    signed(&claims)
}

/// A token of these claims.
pub fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.trim_end().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("it signs")
}
