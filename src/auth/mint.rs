//! `fanfare token`: a token for testing. In earnest they come from the service that knows its members.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::{self, Algorithm, Fault, KeyError, Kind};
use super::rights::{Patterns, Types};
use super::signing::Signer;
use super::{RSA_BITS_MIN, SECRET_BYTES_MIN, TOKEN_BYTES_MAX, jwks, token};
use crate::limits::TOKEN_EXPIRY_MAX;

const KINDS: &str =
    "give a secret for HS256, or a private PEM key (PKCS#8) for RS256, ES256 (P-256) or EdDSA (Ed25519)";
const CONVERT: &str = "convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("--alg {0:?}: {1}")]
    Algorithm(String, String),
    #[error("--{flag} {value:?}: {problem}")]
    Claim { flag: &'static str, value: String, problem: String },
    #[error("the token has {0} bytes, and servers take at most {TOKEN_BYTES_MAX}; give fewer or shorter topics")]
    Oversized(usize),
    #[error("the key does not sign")]
    Signing,
}

/// The flags of `fanfare token`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  openssl rand -base64 48 > secret
  fanfare all --auth jwt --jwt-key-file secret
  export FANFARE_TOKEN=$(fanfare token --key-file secret --sub ana --subscribe 'live:*')
  fanfare subscribe live:42

The algorithm is that of the key: HS256 for a secret, RS256, ES256 or EdDSA for a private key in PEM
(openssl genpkey -algorithm ed25519), whose public half the server gets: openssl pkey -pubout.

Exit status: 0, 1 when the token cannot be written, 2 for a key or a claim that will not do.")]
pub struct TokenArgs {
    /// Sign with the secret, the private PEM key, or the JWKS's secret in this file
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
    /// Insist on this algorithm: HS256, RS256, ES256 or EdDSA [default: that of the key]
    #[arg(long, value_name = "NAME")]
    pub alg: Option<String>,
    /// Name the key by this kid, for servers with several [default: none, or that of the JWKS's secret]
    #[arg(long, value_name = "NAME")]
    pub kid: Option<String>,
    /// Speak for this member [default: nobody]
    #[arg(long, value_name = "MEMBER")]
    pub sub: Option<String>,
    /// Allow subscribing to this topic, or to all that begin so with a * at the end; repeatable [default: none]
    #[arg(long, value_name = "TOPIC")]
    pub subscribe: Vec<String>,
    /// Allow publishing to this topic, or to all that begin so with a * at the end; repeatable [default: none]
    #[arg(long, value_name = "TOPIC")]
    pub publish: Vec<String>,
    /// Allow publishing events of this type, which is the platform's own, such as comment; repeatable [default: none]
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Allow private updates of this topic of Mercure's protocol: a topic, a URI template, or *; repeatable [default: none]
    #[arg(long, value_name = "SELECTOR")]
    pub mercure_subscribe: Vec<String>,
    /// Allow publishing to this topic of Mercure's protocol: a topic, a URI template, or *; repeatable [default: none]
    #[arg(long, value_name = "SELECTOR")]
    pub mercure_publish: Vec<String>,
    /// Let it expire after this time, such as 30s or 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
}

/// Prints a token, alone on a line. Exit status 0, 1 when it cannot be written, 2 for a key or a claim that will not do.
pub fn run(args: &TokenArgs) -> ExitCode {
    match mint(args, SystemTime::now()) {
        Ok(token) => match writeln!(std::io::stdout(), "{token}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("fanfare token: {error}");
            ExitCode::from(2)
        }
    }
}

/// A key that signs, and its name, if it has one.
type Named = (Option<String>, Signer);

fn mint(args: &TokenArgs, now: SystemTime) -> Result<String, Failure> {
    let claims = claims(args, now)?;
    let (name, signer) = keys::read(&args.key_file)
        .and_then(|bytes| signer(&bytes, args.kid.as_deref()))
        .map_err(|(problem, remedy)| KeyError { path: args.key_file.clone(), problem, remedy })?;
    if let Some(name) = &args.alg {
        let wanted = Algorithm::from_name(name).ok_or_else(|| {
            Failure::Algorithm(
                name.clone(),
                "not an algorithm that is served; give HS256, RS256, ES256 or EdDSA".into(),
            )
        })?;
        if wanted != signer.algorithm() {
            let path = args.key_file.display();
            let problem =
                format!("the key in {path} is for {}; leave --alg out or give another key", signer.algorithm());
            return Err(Failure::Algorithm(name.clone(), problem));
        }
    }
    let mut header = json!({"typ": "JWT", "alg": signer.algorithm().name()});
    if let Some(kid) = args.kid.clone().or(name) {
        header["kid"] = json!(kid);
    }
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(&header), encode(&claims));
    let signature = signer.sign(message.as_bytes()).map_err(|_| Failure::Signing)?;
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    match token.len() > TOKEN_BYTES_MAX {
        true => Err(Failure::Oversized(token.len())),
        false => Ok(token),
    }
}

fn claims(args: &TokenArgs, now: SystemTime) -> Result<Value, Failure> {
    let claim = |flag, value: &str, problem: String| Failure::Claim { flag, value: value.to_owned(), problem };
    for (flag, topics) in [("subscribe", &args.subscribe), ("publish", &args.publish)] {
        for topic in topics {
            Patterns::parse([topic.as_str()]).map_err(|problem| claim(flag, topic, problem.to_owned()))?;
        }
    }
    for name in &args.types {
        Types::parse([name.as_str()]).map_err(|problem| claim("type", name, problem.to_owned()))?;
    }
    if let Some(sub) = &args.sub {
        token::member(sub.clone()).map_err(|error| claim("sub", sub, error.detail()))?;
    }
    let ttl = humantime::format_duration(args.ttl).to_string();
    if args.ttl.as_secs() == 0 {
        return Err(claim("ttl", &ttl, "shorter than a second; give one such as 1h".to_owned()));
    }
    if args.ttl > TOKEN_EXPIRY_MAX {
        return Err(claim("ttl", &ttl, "longer than 10 years, which no node takes; give one such as 1h".to_owned()));
    }
    let issued = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires = issued.saturating_add(args.ttl.as_secs());
    let mut claims = json!({
        "iat": issued,
        "exp": expires,
        "fanfare": { "subscribe": args.subscribe, "publish": args.publish },
    });
    if !args.types.is_empty() {
        claims["fanfare"]["types"] = json!(args.types);
    }
    for (name, selectors) in [("subscribe", &args.mercure_subscribe), ("publish", &args.mercure_publish)] {
        if !selectors.is_empty() {
            claims["mercure"][name] = json!(selectors);
        }
    }
    if let Some(sub) = &args.sub {
        claims["sub"] = json!(sub);
    }
    Ok(claims)
}

fn signer(bytes: &[u8], kid: Option<&str>) -> Result<Named, Fault> {
    let secret = |name: Option<String>, secret: &[u8]| {
        if secret.len() < SECRET_BYTES_MIN {
            let problem = format!("a secret of {} bytes, and servers ask for {SECRET_BYTES_MIN}", secret.len());
            return Err((problem, "make one with: openssl rand -base64 48"));
        }
        Ok((name, Signer::secret(secret)))
    };
    match keys::kind(bytes)? {
        Kind::Secret(bytes) => secret(None, bytes),
        Kind::Json(text) => {
            let (name, bytes) = jwks::secret(text, kid)?;
            secret(name.map(String::from), &bytes)
        }
        Kind::Pem(text) => Ok((None, private(text)?)),
    }
}

/// A private key in PEM.
fn private(text: &str) -> Result<Signer, Fault> {
    // `openssl ecparam` puts the curve's parameters before the key.
    let block = keys::blocks(text).find(|block| block.lines().next().is_some_and(|line| line.contains("PRIVATE KEY")));
    let block = block.ok_or_else(|| ("this PEM holds no private key".to_owned(), KINDS))?;
    let line = block.lines().next().unwrap_or("");
    if ["EC PRIVATE", "ENCRYPTED", "OPENSSH"].iter().any(|form| line.contains(form)) || block.contains("Proc-Type") {
        return Err(("a private key that is encrypted, or not in PKCS#8".to_owned(), CONVERT));
    }
    let read = keys::der(block).and_then(|der| Signer::from_der(&der));
    let signer = read.ok_or_else(|| ("this PEM holds no private key that can be read".to_owned(), KINDS))?;
    let signer = signer.map_err(|problem| (problem, KINDS))?;
    match signer.rsa_bits() {
        Some(..RSA_BITS_MIN) => Err((format!("an RSA key of fewer than {RSA_BITS_MIN} bits"), KINDS)),
        _ => Ok(signer),
    }
}
