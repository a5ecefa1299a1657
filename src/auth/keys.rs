//! The keys that check tokens, from a file that holds a secret, PEM public keys or a JWKS.

use super::signing::{Verifier, is_on_p256};
use super::{
    KEY_FILE_BYTES_MAX, KEYS_MAX, KEYS_TRIED_MAX, KEYS_UNNAMED_MAX, RSA_BITS_MAX, RSA_BITS_MIN, SECRET_BYTES_MIN,
};
use super::{TokenError, jwks};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The signatures that tokens may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, by a shared secret.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// The algorithm of this name (RFC 7518 section 3.1), which is compared exactly; `None` for `none` and all that
    /// are not served.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a token's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A key file that will not do. The text names the file, what is wrong and what would do, and shows nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {remedy}", path.display())]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What would do.
    pub remedy: &'static str,
}

/// What is wrong with a file's content, and what would do.
pub(super) type Fault = (String, &'static str);

/// What is to be done about a file that cannot be read.
pub const READABLE: &str = "give a file that this user may read";
const SECRET: &str = "make a secret with: openssl rand -base64 48";
const PUBLIC: &str = "give the public key, as openssl pkey -pubout writes it";
const KINDS: &str = "give a secret for HS256, PEM public keys for RS256, ES256 (P-256) or EdDSA (Ed25519), or a JWKS";

/// One key. Its algorithm comes from what the key is, never from a token.
#[derive(PartialEq)]
pub(super) struct Key {
    pub name: Option<Box<str>>,
    pub algorithm: Algorithm,
    key: Verifier,
}

impl Key {
    /// A shared secret of at least [`SECRET_BYTES_MIN`] bytes.
    pub fn secret(name: Option<Box<str>>, secret: &[u8]) -> Result<Key, Fault> {
        if secret.len() < SECRET_BYTES_MIN {
            let found = secret.len();
            return Err((format!("a secret of {found} bytes can be guessed, HS256 needs {SECRET_BYTES_MIN}"), SECRET));
        }
        Ok(Key::of(name, Verifier::Secret(secret.into())))
    }

    /// An RSA public key by its modulus and exponent, big-endian.
    pub fn rsa(name: Option<Box<str>>, modulus: &[u8], exponent: &[u8]) -> Result<Key, Fault> {
        // The library reports a bad key only as a bad signature, at each token.
        let significant =
            |bytes: &[u8]| bytes.iter().position(|&byte| byte != 0).map_or(0, |zeros| bytes.len() - zeros);
        let first = modulus.iter().find(|&&byte| byte != 0).map_or(8, |byte| byte.leading_zeros() as usize);
        let bits = (significant(modulus) * 8).saturating_sub(first);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err((
                format!("an RSA key of {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are served"),
                "make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072",
            ));
        }
        let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
        let one = significant(exponent) == 1 && exponent.last() == Some(&1);
        if !odd(modulus) || !odd(exponent) || one || significant(exponent) > 4 {
            return Err(("an RSA key with a modulus or an exponent that cannot be".to_owned(), PUBLIC));
        }
        Ok(Key::of(name, Verifier::Rsa(modulus.into(), exponent.into())))
    }

    /// A point on P-256, uncompressed: 0x04, x, y.
    pub fn p256(name: Option<Box<str>>, point: &[u8]) -> Result<Key, Fault> {
        if point.len() != 65 || !is_on_p256(point) {
            return Err(("an EC key that is not a point on P-256".to_owned(), KINDS));
        }
        Ok(Key::of(name, Verifier::P256(point.into())))
    }

    /// An Ed25519 public key of 32 bytes.
    pub fn ed25519(name: Option<Box<str>>, bytes: &[u8]) -> Result<Key, Fault> {
        if bytes.len() != 32 {
            return Err(("an OKP key that is not of Ed25519".to_owned(), KINDS));
        }
        Ok(Key::of(name, Verifier::Ed25519(bytes.into())))
    }

    fn of(name: Option<Box<str>>, key: Verifier) -> Key {
        Key { name, algorithm: key.algorithm(), key }
    }

    /// Whether `signature` (base64url) is this key's of `message`.
    pub fn signed(&self, message: &[u8], signature: &str) -> bool {
        URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| self.key.verifies(message, &signature))
    }
}

/// The keys of one file, at least one, or of an issuer, none before they were fetched; at most [`KEYS_MAX`]. `Debug` shows names and algorithms only.
#[derive(PartialEq)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads a file of at most [`KEY_FILE_BYTES_MAX`] bytes. It blocks, so it is not for a shard's executor.
    ///
    /// - A JSON object is a JWKS or a single JWK; keys of kinds that are not served are passed over (RFC 7517
    ///   section 5), and so are those for encryption.
    /// - PEM is one or more public keys, at most [`KEYS_UNNAMED_MAX`].
    /// - Anything else is a secret: text without the white space around it, other bytes as they are.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no key, a private key, a secret that can be guessed, or a public
    /// key in a form that would make a secret of it.
    pub fn load(path: &Path) -> Result<Keys, KeyError> {
        read(path).and_then(|bytes| Keys::parse(&bytes)).map_err(|(problem, remedy)| KeyError {
            path: path.to_owned(),
            problem,
            remedy,
        })
    }

    /// None yet.
    pub(super) fn none() -> Keys {
        Keys(Vec::new())
    }

    /// The keys that an issuer serves, a JWKS of public ones: whoever can read a secret could sign by it.
    pub(super) fn of_issuer(bytes: &[u8]) -> Result<Keys, Fault> {
        const PUBLIC_SET: &str =
            "give the URL of a JWKS of public keys, such as https://id.example/.well-known/jwks.json";
        if !matches!(kind(bytes), Ok(Kind::Json(_))) {
            return Err(("what is served there is no JWKS".to_owned(), PUBLIC_SET));
        }
        let keys = Keys::parse(bytes)?;
        match keys.0.iter().any(|key| key.algorithm == Algorithm::Hs256) {
            true => Err(("a secret is served there".to_owned(), PUBLIC_SET)),
            false => Ok(keys),
        }
    }

    /// The keys in a file's content.
    pub(super) fn parse(bytes: &[u8]) -> Result<Keys, Fault> {
        let keys = match kind(bytes)? {
            Kind::Json(text) => jwks::parse(text)?,
            Kind::Pem(text) => blocks(text).map(public).collect::<Result<_, _>>()?,
            Kind::Secret(secret) => vec![Key::secret(None, secret)?],
        };
        if keys.len() > KEYS_MAX {
            return Err((format!("{} keys, at most {KEYS_MAX} are served", keys.len()), "take old ones out"));
        }
        if keys.iter().filter(|key| key.name.is_none()).count() > KEYS_UNNAMED_MAX {
            let problem = format!("more than {KEYS_UNNAMED_MAX} keys without a name (kid)");
            return Err((problem, "give a JWKS in which each has a kid"));
        }
        for (index, key) in keys.iter().enumerate() {
            let twin = |other: &Key| other.name == key.name && other.algorithm == key.algorithm;
            if key.name.is_some() && keys[..index].iter().any(twin) {
                return Err((format!("two {} keys have the same kid", key.algorithm), "give each a kid of its own"));
            }
        }
        Ok(Keys(keys))
    }

    /// The keys that may have signed a token of this algorithm and `kid`: the one of that name, else those without a
    /// name; for a token that names none, all of that algorithm, of many the first [`KEYS_TRIED_MAX`].
    ///
    /// # Errors
    /// No key is for the algorithm, or none may have signed it.
    pub(super) fn candidates(
        &self,
        algorithm: Option<Algorithm>,
        name: Option<&str>,
    ) -> Result<impl Iterator<Item = &Key>, TokenError> {
        let fitting = || self.0.iter().filter(move |key| Some(key.algorithm) == algorithm);
        if fitting().next().is_none() {
            return Err(TokenError::WrongAlgorithm(self.algorithms().into()));
        }
        let is_known = name.is_some_and(|name| fitting().any(|key| key.name.as_deref() == Some(name)));
        let may_sign = move |key: &&Key| match name {
            None => true,
            Some(name) => key.name.as_deref() == is_known.then_some(name),
        };
        let mut candidates = fitting().filter(may_sign).take(KEYS_TRIED_MAX).peekable();
        match candidates.peek() {
            Some(_) => Ok(candidates),
            None => Err(TokenError::UnknownKey),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The names of their algorithms, such as `RS256, EdDSA`.
    pub fn algorithms(&self) -> String {
        let served = |algorithm: &Algorithm| self.0.iter().any(|key| key.algorithm == *algorithm);
        Algorithm::ALL.into_iter().filter(served).map(Algorithm::name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.0.iter().map(|key| (key.algorithm, &key.name))).finish()
    }
}

/// Reads a key file, bounded.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| (error.to_string(), READABLE))?;
    // A pipe or a device would never end, or never begin.
    if !file.metadata().map_err(|error| (error.to_string(), READABLE))?.is_file() {
        return Err(("this is not a regular file".to_owned(), READABLE));
    }
    file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| (error.to_string(), READABLE))?;
    if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err((format!("more than {KEY_FILE_BYTES_MAX} bytes"), KINDS));
    }
    Ok(bytes)
}

/// What a key file holds.
pub(super) enum Kind<'a> {
    Json(&'a str),
    Pem(&'a str),
    Secret(&'a [u8]),
}

/// Tells what a key file holds. What is not clearly a secret is not taken for one, since everybody has a public key:
/// taken for a secret, it would let them sign.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind<'_>, Fault> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(("the file is empty".to_owned(), KINDS));
    }
    let text = std::str::from_utf8(trimmed).ok().filter(|text| !text.bytes().any(|byte| byte == 0));
    let Some(text) = text else {
        return if is_der(bytes) { Err(("this is a key in DER".to_owned(), PUBLIC)) } else { Ok(Kind::Secret(bytes)) };
    };
    if text.starts_with(['{', '[']) {
        return Ok(Kind::Json(text));
    }
    if text.contains("-----BEGIN") {
        return Ok(Kind::Pem(text));
    }
    let joined: String = text.split_ascii_whitespace().collect();
    if STANDARD.decode(&joined).is_ok_and(|bytes| is_der(&bytes)) {
        return Err(("this is a key in base64, without the lines of PEM around it".to_owned(), PUBLIC));
    }
    if text.contains("-----END") || ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| text.starts_with(prefix)) {
        return Err(("this is a key, in a form that is not read".to_owned(), PUBLIC));
    }
    Ok(Kind::Secret(trimmed))
}

/// Whether `bytes` are one ASN.1 sequence, as keys and certificates in DER are.
fn is_der(bytes: &[u8]) -> bool {
    match bytes {
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([*high, *low])),
        [0x30, length, rest @ ..] => rest.len() == usize::from(*length),
        _ => false,
    }
}

/// The blocks of a PEM text, each from its BEGIN to the next.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = text.match_indices("-----BEGIN").map(|(at, _)| at).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &text[start..end])
}

/// A public key in PEM.
fn public(block: &str) -> Result<Key, Fault> {
    let label = block["-----BEGIN".len()..].split("-----").next().unwrap_or("").trim();
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        _ if label.ends_with("PRIVATE KEY") => {
            return Err(("this is a private key, which a server that only checks tokens need not know".into(), PUBLIC));
        }
        _ => return Err(("this PEM holds something other than public keys".to_owned(), PUBLIC)),
    }
    match der(block).and_then(|der| Verifier::from_der(&der)) {
        Some(Verifier::Rsa(modulus, exponent)) => Key::rsa(None, &modulus, &exponent),
        Some(Verifier::P256(point)) => Key::p256(None, &point),
        Some(Verifier::Ed25519(bytes)) => Key::ed25519(None, &bytes),
        Some(Verifier::Secret(_)) | None => Err(("this PEM holds no key that can be read".to_owned(), KINDS)),
    }
}

/// What stands between the lines of a PEM block (RFC 7468).
pub(super) fn der(block: &str) -> Option<Vec<u8>> {
    let (_, content) = block.split_once('\n')?;
    let (content, _) = content.split_once("-----END")?;
    STANDARD.decode(content.split_ascii_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
    }

    fn fault(content: impl AsRef<[u8]>) -> String {
        let (problem, remedy) = Keys::parse(content.as_ref()).unwrap_err();
        format!("{problem}; {remedy}")
    }

    #[test]
    fn a_secret_is_text_without_the_space_around_it_or_bytes() {
        let secret = "0123456789abcdef0123456789abcdef";
        assert_eq!(Keys::parse(format!("\n {secret}\r\n").as_bytes()), Keys::parse(secret.as_bytes()));
        let mut bytes = [0xff; 33];
        assert_eq!(Keys::parse(&bytes).unwrap().algorithms(), "HS256");
        // White space at the end of bytes may be a part of them.
        bytes[32] = b'\n';
        assert_ne!(Keys::parse(&bytes), Keys::parse(&bytes[..32]));
        assert!(fault(&secret[1..]).contains("openssl rand -base64 48"));
        assert!(fault(" \n").contains("empty"));
    }

    #[test]
    fn several_public_keys_in_one_file_are_all_tried() {
        let all = pem("rsa.pub.pem") + "a comment\n" + &pem("ec.pub.pem") + &pem("ed.pub.pem");
        let keys = Keys::parse(all.as_bytes()).unwrap();
        assert_eq!((keys.count(), keys.algorithms().as_str()), (3, "RS256, ES256, EdDSA"));
        assert_eq!(keys.candidates(Some(Algorithm::EdDsa), Some("x")).map(Iterator::count), Ok(1));
        let twice = all.clone() + &pem("ed.pub.pem");
        let keys = Keys::parse(twice.as_bytes()).unwrap();
        assert_eq!(keys.candidates(Some(Algorithm::EdDsa), None).map(Iterator::count), Ok(2));
        assert!(fault(twice + &pem("ed.pub.pem")).contains("more than 4 keys without a name"));
    }

    #[test]
    fn what_would_not_check_tokens_is_refused_at_once() {
        let certificate = pem("rsa.pub.pem").replace("PUBLIC KEY", "CERTIFICATE");
        for (content, says) in [
            (pem("rsa.pem"), "private key"),
            (pem("ec.pem"), "private key"),
            (pem("ed.pem"), "private key"),
            (pem("ed.pub.pem") + &pem("ed.pem"), "private key"),
            (pem("rsa-1024.pub.pem"), "1024 bits"),
            (pem("ec-384.pub.pem"), "P-256"),
            (certificate, "other than public keys"),
            (pem("ed.pub.pem").replace("MCow", "MCox"), "no key that can be read"),
            (pem("rsa.pub.pem").lines().take(3).collect(), "no key that can be read"),
            ("-----END PUBLIC KEY----- and 32 bytes and more".to_owned(), "a form that is not read"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl".to_owned(), "form"),
        ] {
            let fault = fault(&content);
            assert!(fault.contains(says), "{says:?}: {fault}");
        }
    }

    #[test]
    fn an_issuer_serves_public_keys_as_a_set_and_nothing_else() {
        let set = pem("jwks.json");
        let (problem, _) = Keys::of_issuer(set.as_bytes()).unwrap_err();
        assert!(problem.contains("a secret"), "{problem}");
        let public = set.replace("\"oct\"", "\"unknown\"");
        assert_eq!(Keys::of_issuer(public.as_bytes()).unwrap().algorithms(), "RS256, ES256, EdDSA");
        for other in [
            pem("ed.pub.pem"),
            "a text that is long enough to be a secret, as an error page is".to_owned(),
            String::new(),
        ] {
            assert!(Keys::of_issuer(other.as_bytes()).unwrap_err().0.contains("no JWKS"), "{other}");
        }
    }

    #[test]
    fn a_file_that_will_not_do_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'x'; KEY_FILE_BYTES_MAX as usize + 1]).unwrap();
        for (path, says) in
            [(missing.as_path(), "No such file"), (&large, "more than 65536"), (folder.path(), "regular")]
        {
            let error = Keys::load(path).unwrap_err();
            assert!(error.problem.contains(says), "{error}");
            assert!(error.to_string().starts_with(&path.display().to_string()));
        }
        std::fs::write(&large, vec![b'x'; KEY_FILE_BYTES_MAX as usize]).unwrap();
        assert_eq!(Keys::load(&large).unwrap().count(), 1);
    }

    #[test]
    fn debug_shows_no_key() {
        let keys = Keys::parse(b"hunter2hunter2hunter2hunter2hunter2").unwrap();
        assert_eq!(format!("{keys:?}"), "[(Hs256, None)]");
    }

    proptest::proptest! {
        #[test]
        fn any_content_is_keys_or_a_fault(
            content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            body in "[A-Za-z0-9+/=\n]{0,120}",
        ) {
            let _ = Keys::parse(&content);
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
            proptest::prop_assert!(Keys::parse(pem.as_bytes()).is_err());
        }

        #[test]
        fn der_is_never_a_secret(length in 0usize..2_000) {
            let mut der = match length {
                0..128 => vec![0x30, length as u8],
                128..256 => vec![0x30, 0x81, length as u8],
                _ => vec![0x30, 0x82, (length >> 8) as u8, length as u8],
            };
            der.resize(der.len() + length, 0xa5);
            proptest::prop_assert!(Keys::parse(&der).is_err());
            proptest::prop_assert!(Keys::parse(STANDARD.encode(&der).as_bytes()).is_err());
        }
    }
}
