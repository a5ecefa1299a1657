//! What a `postgres://` URL asks for.
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::db::postgres::{Refused, passfile};
use crate::limits::{POSTGRES_CONNECT, POSTGRES_KEEPALIVE};

/// How to connect.
pub(crate) struct Options {
    config: Config,
    /// Where the password is, if it is in a file: it may change.
    password_file: Option<PathBuf>,
    /// PostgreSQL's file of passwords, where neither the URL nor a file of its own has one.
    passfile: Option<PathBuf>,
    /// None speaks in the clear.
    pub(crate) tls: Option<MakeRustlsConnect>,
}

impl Options {
    /// Reads a URL. `sslmode`, `sslrootcert` and files of passwords are read here, the rest is what the client library
    /// takes.
    pub(crate) fn parse(url: &str) -> Result<Options, Refused> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut encrypted, mut authorities, mut password_file, mut passfile) = (false, None, None, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => encrypted = wants_tls(value)?,
                "sslrootcert" => authorities = Some(decoded(value)),
                "password_file" => password_file = Some(PathBuf::from(decoded(value))),
                "passfile" => passfile = Some(PathBuf::from(decoded(value))),
                _ => rest.push(pair),
            }
        }
        let mut config: Config =
            format!("{base}?{}", rest.join("&")).parse().map_err(|error: tokio_postgres::Error| {
                Refused::new(cause(&error), "give postgres://USER:PASSWORD@HOST:PORT/NAME")
            })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Refused::new("a URL without a host", "give postgres://USER:PASSWORD@HOST:PORT/NAME"));
        }
        config.connect_timeout(POSTGRES_CONNECT).tcp_user_timeout(POSTGRES_CONNECT).keepalives_idle(POSTGRES_KEEPALIVE);
        if config.get_application_name().is_none() {
            config.application_name("fanfare");
        }
        let tls = if encrypted {
            check_names(&config)?;
            config.ssl_mode(SslMode::Require);
            Some(tls(authorities.as_deref())?)
        } else {
            config.ssl_mode(SslMode::Disable);
            None
        };
        let has_password = password_file.is_some() || config.get_password().is_some();
        let passfile = passfile.or_else(passfile::usual).filter(|_| !has_password);
        Ok(Options { config, password_file, passfile, tls })
    }

    /// What to connect by now.
    pub(crate) fn config(&self) -> Result<Config, Refused> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            let remedy = "give a file that this user may read, with the password and nothing else";
            let password = std::fs::read(path)
                .map_err(|error| Refused::new(format!("the password file {}: {error}", path.display()), remedy))?;
            config.password(password.trim_ascii_end());
        } else if let Some(password) = self.passfile.as_ref().and_then(|path| passfile::password(path, &config)) {
            config.password(password);
        }
        Ok(config)
    }
}

/// An encrypted connection is always a checked one, as with libpq's `verify-full`. So there is no mode that takes TLS or
/// leaves it, which protects from nobody who can answer in the server's place.
fn wants_tls(mode: &str) -> Result<bool, Refused> {
    match mode {
        "disable" | "allow" | "prefer" => Ok(false),
        "require" | "verify-ca" | "verify-full" => Ok(true),
        other => Err(Refused::new(format!("sslmode={other} is not known"), "give sslmode=disable or sslmode=require")),
    }
}

/// Certificates are for names and addresses, not for sockets in the file system.
fn check_names(config: &Config) -> Result<(), Refused> {
    for host in config.get_hosts() {
        let fits = match host {
            Host::Tcp(name) => ServerName::try_from(name.as_str()).is_ok(),
            Host::Unix(_) => false,
        };
        if !fits {
            return Err(Refused::new(
                "sslmode=require needs a host name that a certificate can be for",
                "give the server's name, or leave sslmode out",
            ));
        }
    }
    Ok(())
}

fn tls(authorities: Option<&str>) -> Result<MakeRustlsConnect, Refused> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let remedy = "give a PEM file of authorities as sslrootcert";
            let problem = |error: &dyn std::fmt::Display| Refused::new(format!("sslrootcert {path}: {error}"), remedy);
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| problem(&error))? {
                let certificate = certificate.map_err(|error| problem(&error))?;
                roots.add(certificate).map_err(|error| problem(&error))?;
            }
            if roots.is_empty() {
                return Err(problem(&"it holds no certificate"));
            }
        }
        None => {
            // One that cannot be read is no reason to do without the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Refused::new(
                    "sslmode=require, but this machine trusts no authority",
                    "install ca-certificates, or give sslrootcert=PATH",
                ));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the versions that rustls takes for safe")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A value of a query, percent-decoded.
fn decoded(value: &str) -> String {
    url::form_urlencoded::parse(format!("v={}", value.replace('+', "%2B")).as_bytes())
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// The innermost reasons of an error, which the library's own text leaves out.
pub(crate) fn cause(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", error.message());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Options::parse(url).err().map(|refused| refused.problem).unwrap_or_else(|| panic!("{url} is taken"))
    }

    #[test]
    fn urls_become_options() {
        let options = Options::parse("postgres://ana:p%40ss@db:5433/fanfare?target_session_attrs=read-write").unwrap();
        assert_eq!(options.config.get_dbname(), Some("fanfare"));
        assert_eq!(options.config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(options.config.get_ports(), [5433]);
        assert_eq!(options.config.get_application_name(), Some("fanfare"));
        assert!(options.tls.is_none());
        let socket = Options::parse("postgresql:///f?host=/run/postgresql&user=bo").unwrap();
        assert_eq!(socket.config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
    }

    #[test]
    fn tls_is_asked_for_by_sslmode_and_needs_a_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Options::parse("postgres://db/f?sslmode=prefer").unwrap().tls.is_none());
        let path = file.path().display();
        assert!(refused(&format!("postgres://db/f?sslmode=require&sslrootcert={path}")).contains("no certificate"));
        assert!(refused("postgres://db/f?sslmode=require&sslrootcert=/nowhere%20else").contains("/nowhere else"));
        assert!(refused("postgres:///f?host=/run/postgresql&sslmode=require").contains("host name"));
        assert!(refused("postgres://db/f?sslmode=always").contains("sslmode=always"));
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused() {
        for (url, says) in [
            ("postgres://db:x/f", "port"),
            ("postgres://db/f?colour=red", "colour"),
            ("postgres:///f", "host"),
            ("postgres://db/f?connect_timeout=soon", "connect_timeout"),
        ] {
            assert!(refused(url).contains(says), "{}", refused(url));
        }
    }
}
