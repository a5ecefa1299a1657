//! Whom TLS connections to others trust.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A configuration that trusts the certificates of a PEM file, or else what this machine trusts.
///
/// # Errors
/// Says which file is unreadable, and why.
pub fn client_config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(trusted(authorities)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The same for requests by `ureq`, which trust what this machine trusts where they are to be secure.
///
/// # Errors
/// It trusts nobody, and they are.
pub fn requests_config(is_secure: bool) -> Result<TlsConfig, String> {
    if !is_secure {
        return Ok(TlsConfig::default());
    }
    let found = native()?;
    let found: Vec<Certificate<'static>> = found.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&found));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

/// What this machine trusts: a list of files that OpenSSL reads too, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn native() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs().certs;
    match found.is_empty() {
        true => {
            Err("this machine trusts no authority (install ca-certificates, or name a file of certificates)".to_owned())
        }
        false => Ok(found),
    }
}

/// The certificates to trust.
fn trusted(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut trusted = RootCertStore::empty();
    match file {
        Some(file) => {
            let unreadable = |error: &dyn std::fmt::Display| format!("cacert {}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                trusted.add(certificate).map_err(|error| unreadable(&error))?;
            }
            if trusted.is_empty() {
                return Err(unreadable(&"it holds no certificate"));
            }
        }
        None => {
            trusted.add_parsable_certificates(native()?);
        }
    }
    Ok(trusted)
}
