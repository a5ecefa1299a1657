//! The public listener that speaks TLS: its address, and the files of its certificates and their keys, in pairs.

use super::{Layers, SettingsError, values};
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

pub(super) fn resolve(layers: &Layers) -> Result<Option<Tls>, SettingsError> {
    let listen = layers.one("tls_listen", values::address)?;
    let path = |text: &str| match text {
        "" => values::fault("no path", "give the path of a PEM file"),
        _ => Ok(PathBuf::from(text)),
    };
    let (certificates, keys) = (layers.list("tls_cert", path)?, layers.list("tls_key", path)?);
    let missing = |name: &str, problem: String, remedy: &str| {
        Err(SettingsError::Missing { setting: name.to_owned(), problem, remedy: remedy.to_owned() })
    };
    let (certified, keyed) = (certificates.len(), keys.len());
    if certified > keyed {
        let problem = format!("--tls-cert names {certified}, and here are {keyed}");
        return missing("--tls-key", problem, "give the PEM file of each certificate's key, in their order");
    }
    if keyed > certified {
        let problem = format!("--tls-key names {keyed}, and here are {certified}");
        return missing("--tls-cert", problem, "give the PEM file of each key's certificate, in their order");
    }
    match (listen, certified) {
        (Some(_), 0) => {
            missing("--tls-cert", "--tls-listen needs it".to_owned(), "give a PEM file, and its key by --tls-key")
        }
        (None, 1..) => missing(
            "--tls-listen",
            "--tls-cert does nothing without it".to_owned(),
            "give an address such as 0.0.0.0:8443",
        ),
        (None, _) => Ok(None),
        (Some(listen), _) => {
            let files = certificates.into_iter().zip(keys).flat_map(|(certificate, key)| [certificate, key]).collect();
            Ok(Some(Tls { listen, files }))
        }
    }
}
