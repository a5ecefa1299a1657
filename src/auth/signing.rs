//! Signatures of tokens (RFC 7515, RFC 7518, RFC 8037) and the forms of their keys, by ring, which TLS brings already.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ring::{agreement, hmac};

use super::{Algorithm, RSA_BITS_MIN};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519_OID: &[u8] = &[0x2b, 0x65, 0x70];

const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const NAME: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// What checks signatures.
#[derive(PartialEq)]
pub(super) enum Verifier {
    Secret(Box<[u8]>),
    /// Modulus and exponent, big-endian.
    Rsa(Box<[u8]>, Box<[u8]>),
    /// A point, uncompressed.
    P256(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl Verifier {
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Verifier::Secret(_) => Algorithm::Hs256,
            Verifier::Rsa(..) => Algorithm::Rs256,
            Verifier::P256(_) => Algorithm::Es256,
            Verifier::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether this is the key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match self {
            Verifier::Secret(secret) => hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature),
            Verifier::Rsa(n, e) => {
                // Zeros that precede a number are none of it.
                let [n, e] =
                    [n, e].map(|number| number.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &number[at..]));
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Verifier::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Verifier::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        checked.is_ok()
    }

    /// A public key in DER: X.509's form of all kinds (RFC 5280 section 4.1), or RSA's own (RFC 8017 appendix A.1.1). `None` if it
    /// is of another kind, or none.
    pub fn from_der(der: &[u8]) -> Option<Verifier> {
        let mut fields = whole(SEQUENCE, der)?;
        if fields.first() == Some(&INTEGER) {
            return rsa(fields);
        }
        let mut algorithm = element(SEQUENCE, &mut fields)?;
        let key = whole(BITS, fields)?.strip_prefix(&[0])?;
        match element(NAME, &mut algorithm)? {
            RSA => rsa(whole(SEQUENCE, key)?),
            // Other curves have points of other sizes.
            EC => Some(Verifier::P256(key.into())),
            ED25519_OID => Some(Verifier::Ed25519(key.into())),
            _ => None,
        }
    }
}

/// Whether this is a point on P-256, uncompressed: an exchange of keys looks first whether the other side's is one.
pub(super) fn is_on_p256(point: &[u8]) -> bool {
    let own = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new());
    let other = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    own.is_ok_and(|own| agreement::agree_ephemeral(own, &other, |_| ()).is_ok())
}

/// What signs.
pub(super) enum Signer {
    Secret(hmac::Key),
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    pub fn secret(secret: &[u8]) -> Signer {
        Signer::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A private key in PKCS#8 (RFC 5958), or RSA's own form. `None` if it is none of the kinds that are served; else what is
    /// wrong with it.
    pub fn from_der(der: &[u8]) -> Option<Result<Signer, String>> {
        let mut fields = whole(SEQUENCE, der)?;
        element(INTEGER, &mut fields)?;
        let rejected = |kind: &str, error: ring::error::KeyRejected| match error.to_string().as_str() {
            "TooSmall" => format!("{kind} of fewer than {RSA_BITS_MIN} bits"),
            "WrongAlgorithm" => format!("{kind} that is not on P-256"),
            other => format!("{kind} that cannot be read ({other})"),
        };
        if fields.first() == Some(&INTEGER) {
            let key = RsaKeyPair::from_der(der).map_err(|error| rejected("an RSA key", error));
            return Some(key.map(|key| Signer::Rsa(Box::new(key))));
        }
        let mut algorithm = element(SEQUENCE, &mut fields)?;
        match element(NAME, &mut algorithm)? {
            RSA => {
                let key = RsaKeyPair::from_pkcs8(der).map_err(|error| rejected("an RSA key", error));
                Some(key.map(|key| Signer::Rsa(Box::new(key))))
            }
            EC if element(NAME, &mut algorithm) != Some(P256) => Some(Err("an EC key that is not on P-256".to_owned())),
            EC => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
                Some(key.map(|key| Signer::P256(Box::new(key))).map_err(|error| rejected("an EC key", error)))
            }
            ED25519_OID => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
                Some(key.map(|key| Signer::Ed25519(Box::new(key))).map_err(|error| rejected("an Ed25519 key", error)))
            }
            _ => None,
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Signer::Secret(_) => Algorithm::Hs256,
            Signer::Rsa(_) => Algorithm::Rs256,
            Signer::P256(_) => Algorithm::Es256,
            Signer::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Bits of an RSA key.
    pub fn rsa_bits(&self) -> Option<usize> {
        match self {
            Signer::Rsa(key) => Some(key.public().modulus_len() * 8),
            _ => None,
        }
    }

    /// # Errors
    /// The kernel gave no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        Ok(match self {
            Signer::Secret(key) => hmac::sign(key, message).as_ref().to_vec(),
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            Signer::P256(key) => key.sign(&random, message)?.as_ref().to_vec(),
            Signer::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        })
    }
}

/// The two numbers of an RSA public key.
fn rsa(mut fields: &[u8]) -> Option<Verifier> {
    let modulus = element(INTEGER, &mut fields)?;
    let exponent = whole(INTEGER, fields)?;
    Some(Verifier::Rsa(modulus.into(), exponent.into()))
}

/// The content of an element of DER (X.690 section 8.1), of which keys have no longer than 64 KiB; `from` goes on behind it.
fn element<'a>(tag: u8, from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = match **from {
        [found, length @ ..=0x7f, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x81, length, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x82, high, low, ref rest @ ..] if found == tag => (usize::from(u16::from_be_bytes([high, low])), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(content)
}

/// The same, behind which nothing follows.
fn whole(tag: u8, mut from: &[u8]) -> Option<&[u8]> {
    element(tag, &mut from).filter(|_| from.is_empty())
}
