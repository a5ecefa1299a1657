//! The public listener that speaks TLS: its address, and the files of its certificates and their keys, in pairs.

use super::{Listed, SettingsError};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A listener that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A file of certificates and that of its key, and so on. What is in them is looked at when they are used.
    pub files: Vec<PathBuf>,
}

pub(super) fn resolve(listed: &Listed) -> Result<Option<Tls>, SettingsError> {
    let (certificates, keys) = (&listed.tls_cert, &listed.tls_key);
    let (certified, keyed) = (certificates.len(), keys.len());
    let missing = |name, problem: &str, remedy| Err(SettingsError::missing(name, problem, remedy));
    if certified != keyed {
        const REMEDY: &str = "give the PEM file of each certificate and that of its key, in their order";
        let [fewer, more] = if keyed < certified { ["--tls-key", "--tls-cert"] } else { ["--tls-cert", "--tls-key"] };
        let (most, least) = (certified.max(keyed), certified.min(keyed));
        return missing(fewer, &format!("{more} names {most}, and here are {least}"), REMEDY);
    }
    match (listed.tls_listen, certified) {
        (Some(_), 0) => missing("--tls-cert", "--tls-listen needs it", "give a PEM file, and its key by --tls-key"),
        (None, 1..) => {
            missing("--tls-listen", "--tls-cert does nothing without it", "give an address such as 0.0.0.0:8443")
        }
        (None, _) => Ok(None),
        (Some(listen), _) => {
            let files = certificates.iter().zip(keys).flat_map(|(certificate, key)| [certificate.clone(), key.clone()]);
            Ok(Some(Tls { listen, files: files.collect() }))
        }
    }
}
