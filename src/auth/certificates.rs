//! The certificates of the TLS listener, and which of them a client is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;

use crate::auth::watch::{Content, Shared};
use crate::auth::{KeyError, READABLE};

const DAY: u64 = 24 * 3600;

/// A certificate with those that vouch for it, and its key.
#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    /// Of the files' content.
    digest: [u8; 32],
    /// Until when it holds, in seconds of Unix time.
    until: u64,
}

/// Those that the listener has, the first one for whoever asks for no name that another has.
#[derive(Debug)]
pub struct Certificates(Vec<Pair>);

impl PartialEq for Certificates {
    fn eq(&self, other: &Certificates) -> bool {
        self.0.iter().map(|pair| pair.digest).eq(other.0.iter().map(|pair| pair.digest))
    }
}

impl Content for Certificates {
    const WHAT: &'static str = "certificates";

    /// Reads pairs: a file of certificates, and that of its key, which may be the same.
    fn read(paths: &[PathBuf]) -> Result<Certificates, KeyError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let pairs = paths.chunks_exact(2).map(|pair| Pair::read(&pair[0], &pair[1], now));
        Ok(Certificates(pairs.collect::<Result<_, _>>()?))
    }

    fn describe(&self) -> String {
        format!("{}, the first to expire in {} days", self.0.len(), self.days_left(SystemTime::now()))
    }
}

impl Pair {
    fn read(certificates: &Path, key: &Path, now: u64) -> Result<Pair, KeyError> {
        let error = |path: &Path, problem: String, remedy| KeyError { path: path.to_owned(), problem, remedy };
        let read = |path: &Path| std::fs::read(path).map_err(|problem| error(path, problem.to_string(), READABLE));
        let (chain_pem, key_pem) = (read(certificates)?, read(key)?);
        const CERTIFICATE: &str = "give a PEM file with the certificate first, and behind it those that vouch for it";
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|problem| error(certificates, problem.to_string(), CERTIFICATE))?;
        let Some(first) = chain.first() else {
            return Err(error(certificates, "it holds no certificate".to_owned(), CERTIFICATE));
        };
        let parsed = x509_cert::Certificate::from_der(first)
            .map_err(|problem| error(certificates, format!("no certificate: {problem}"), CERTIFICATE))?;
        let validity = parsed.tbs_certificate.validity;
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        let (from, until) = (seconds(validity.not_before), seconds(validity.not_after));
        const RENEW: &str = "give one that holds now; renewed files are taken up without a restart";
        let date = |seconds| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        if until < now {
            return Err(error(certificates, format!("it expired on {}", date(until)), RENEW));
        }
        if from > now {
            return Err(error(certificates, format!("it holds from {} on only", date(from)), RENEW));
        }
        const KEY: &str = "give the PEM file of the certificate's private key, without a passphrase";
        let der = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|problem| error(key, format!("no private key: {problem}"), KEY))?;
        let certified = CertifiedKey::from_der(chain, der, &default_provider()).map_err(|problem| match problem {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                error(key, format!("it is not the key of {}", certificates.display()), KEY)
            }
            other => error(key, other.to_string(), KEY),
        })?;
        let digest = Sha256::new().chain_update(&chain_pem).chain_update([0]).chain_update(&key_pem).finalize();
        Ok(Pair { certified: Arc::new(certified), digest: digest.into(), until })
    }

    /// Whether it is one for this name.
    fn has(&self, name: &ServerName<'_>) -> bool {
        let certificate = ParsedCertificate::try_from(&self.certified.cert[0]);
        certificate.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

impl Certificates {
    /// Whole days until the first of them expires; less than none once it has.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let until = self.0.iter().map(|pair| pair.until).min().unwrap_or(now);
        (until as i64 - now as i64).div_euclid(DAY as i64)
    }
}

/// Chooses by the name that a client asks for.
#[derive(Debug)]
struct ByName(Shared<Certificates>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let signs = |pair: &&Pair| pair.certified.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = name.and_then(|name| certificates.0.iter().filter(signs).find(|pair| pair.has(&name)));
        named.or_else(|| certificates.0.iter().find(signs)).map(|pair| Arc::clone(&pair.certified))
    }
}

/// What a listener with these certificates offers: TLS 1.3 and 1.2, HTTP/1.1, and tickets by which whoever comes back saves most
/// of the handshake. Their keys change every few hours, and are this process's own.
///
/// # Errors
/// No randomness.
pub fn offer(certificates: Shared<Certificates>) -> Result<Arc<ServerConfig>, Error> {
    let provider: Arc<CryptoProvider> = Arc::new(default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A connection keeps them, and nothing else of rustls.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}
