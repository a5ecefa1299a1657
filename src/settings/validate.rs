//! What settings must be to one another, and to the role: each rule of the design, in its order.

use super::layers::{Fault, Source};
use super::secret::SECRET_BYTES_GOOD;
use super::setting::flag;
use super::values::{is_loopback, is_loopback_url};
use super::{Auth, CorsOrigins, KeySource, Kv, Role, Settings, SettingsError};
use std::net::SocketAddr;

/// Checks every rule and adds the warnings of those that only warn.
pub(super) fn check(settings: &mut Settings) -> Result<(), SettingsError> {
    needs(settings)?;
    listeners(settings)?;
    peers(settings)?;
    access(settings)?;
    authorize(settings)
}

/// Who is asked whether somebody may do something gets told of it safely, and knows who asks.
fn authorize(settings: &mut Settings) -> Result<(), SettingsError> {
    let Some(url) = &settings.authorize else {
        let names = ["secret_file", "deadline", "keep", "away", "headers"].map(|name| format!("authorize_{name}"));
        let given = names.iter().filter(|name| *settings.origin(name) != Source::Default);
        let idle: Vec<_> = given.map(|name| format!("{} does nothing without --authorize.", flag(name))).collect();
        settings.warnings.extend(idle);
        return Ok(());
    };
    if url.scheme() == "http" && !is_loopback_url(url) && !settings.hook_insecure {
        let remedy = "give an https:// URL, or --hook-insecure if the way there is safe";
        return Err(settings.refuse(
            "authorize",
            "it would ask in the clear, and take whatever somebody answers",
            remedy,
        ));
    }
    if settings.authorize_headers.contains(&"cookie") && settings.cors_origin == CorsOrigins::Any {
        return Err(settings.refuse(
            "cors_origin",
            "with --authorize-headers cookie every page could act for a member who visits it",
            "name the origins that may",
        ));
    }
    if settings.authorize_secret_file.is_none() {
        let remedy = "give a file with whsec_ and what `openssl rand -base64 32` prints";
        return Err(SettingsError::missing("--authorize-secret-file", "--authorize needs it", remedy));
    }
    Ok(())
}

impl Settings {
    /// Where the value of a setting came from, by its name in the file, such as `listen`.
    pub fn origin(&self, name: &str) -> &Source {
        self.layers.get(name).map_or(&Source::Default, |raw| &raw.origin)
    }

    /// An error about a setting that only its use shows to be bad, such as `listen` with a port that
    /// is taken: `problem` says what is wrong, `remedy` what would do.
    pub fn refuse(&self, name: &str, problem: &str, remedy: &str) -> SettingsError {
        let value = self.layers.get(name).map(|raw| raw.values.join(",")).unwrap_or_default();
        let fault = Fault { problem: problem.to_owned(), remedy: remedy.to_owned() };
        self.origin(name).refuse(flag(name), &value, fault)
    }
}

fn missing(name: &str, role: Role, remedy: &str) -> SettingsError {
    SettingsError::missing(&flag(name), &format!("a {role} needs it"), remedy)
}

/// A frontend needs dispatchers; a dispatcher a store; a backend dispatchers, a database and a store.
fn needs(settings: &Settings) -> Result<(), SettingsError> {
    let role = settings.role;
    if matches!(role, Role::Frontend | Role::Backend) && settings.dispatchers.is_empty() {
        let remedy = "give the internal URLs of one or more, such as http://10.0.0.5:8081";
        return Err(missing("dispatchers", role, remedy));
    }
    if role != Role::All && settings.kv == Kv::Memory {
        const REMEDY: &str = "give redis://HOST:6379 or rediss://HOST:6379";
        if *settings.origin("kv") != Source::Default {
            return Err(settings.refuse("kv", &format!("memory is for `all` only, not for a {role}"), REMEDY));
        }
        if role != Role::Frontend {
            return Err(missing("kv", role, REMEDY));
        }
    }
    // The default is a file in the working directory, which several backends would not share.
    if role == Role::Backend && *settings.origin("db") == Source::Default {
        return Err(missing("db", role, "give postgres://HOST/NAME, or sqlite:PATH for a single backend"));
    }
    if settings.reactions.is_empty() {
        return Err(settings.refuse("reactions", "no reaction", "give one or more, such as like,love"));
    }
    Ok(())
}

fn listeners(settings: &mut Settings) -> Result<(), SettingsError> {
    let (listen, internal) = (settings.listen, settings.internal);
    let mut others = vec![("--listen", listen)];
    for (name, address) in [("internal", Some(internal)), ("tls_listen", settings.tls_listen)] {
        let Some(address) = address else { continue };
        let is_same = |other: &SocketAddr| {
            let is_every = other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && address.port() != 0 && (other.ip() == address.ip() || is_every)
        };
        if let Some((flag, other)) = others.iter().find(|(_, other)| is_same(other)) {
            let problem = format!("{flag} {other} takes this port");
            return Err(settings.refuse(name, &problem, "give each listener a port of its own"));
        }
        others.push(("--internal", address));
    }
    if !is_loopback(internal.ip()) && settings.cluster_secret_file.is_none() {
        return Err(settings.refuse(
            "internal",
            "other boxes can reach it and no --cluster-secret-file is set",
            "give --cluster-secret-file FILE, or an address in 127.0.0.0/8",
        ));
    }
    if internal.ip().is_unspecified() && settings.role != Role::All && settings.advertise.is_none() {
        return Err(settings.refuse(
            "internal",
            "other nodes cannot connect to this address",
            "give --advertise URL, or listen on one address of the box",
        ));
    }
    let secrets = settings
        .peers
        .iter()
        .filter_map(|(name, peer)| Some((format!("--peer-secret-file {name}"), peer.secret.as_ref()?)));
    let secrets =
        settings.cluster_secret_file.iter().map(|secret| ("--cluster-secret-file".to_owned(), secret)).chain(secrets);
    let short: Vec<String> = secrets
        .filter(|(_, secret)| secret.expose().len() < SECRET_BYTES_GOOD)
        .map(|(setting, _)| {
            format!("The secret of {setting} has fewer than {SECRET_BYTES_GOOD} bytes and may be guessed.")
        })
        .collect();
    settings.warnings.extend(short);
    Ok(())
}

fn peers(settings: &mut Settings) -> Result<(), SettingsError> {
    if !settings.peers.is_empty() && *settings.origin("dc") == Source::Default {
        let problem = "--peer needs it, since peers must know one another by different names";
        return Err(SettingsError::missing("--dc", problem, "give this data center's name, such as eu-1"));
    }
    let is_reached_from_afar = !is_loopback(settings.internal.ip());
    for (name, peer) in &settings.peers {
        let raw = &settings.layers.given["peer"][name];
        let refuse = |problem: String, remedy: &str| {
            let fault = Fault { problem, remedy: remedy.to_owned() };
            raw.origin.refuse(format!("--peer {name}"), &raw.values.join(","), fault)
        };
        if *name == settings.dc {
            let problem = format!("this node is in data center {name} itself");
            return Err(refuse(problem, "name the other data center, or give this one's as --dc NAME"));
        }
        let plain = peer.urls.iter().find(|url| url.scheme() == "http" && !is_loopback_url(url));
        if let Some(url) = plain.filter(|_| !settings.peer_insecure) {
            let problem = format!("{url} would send events and the peer's secret in the clear");
            return Err(refuse(problem, "give an https:// URL, or --peer-insecure if the way there is safe"));
        }
        // On one box, everyone who reaches the internal listener may do more already.
        if peer.secret.is_none() && (is_reached_from_afar || !peer.urls.iter().all(is_loopback_url)) {
            let problem = format!("without a secret, whoever reaches --internal may broadcast as {name}");
            return Err(refuse(
                problem,
                &format!("give --peer-secret-file {name}=PATH, the same secret there and here"),
            ));
        }
    }
    Ok(())
}

fn access(settings: &mut Settings) -> Result<(), SettingsError> {
    match &settings.auth {
        Auth::None => {
            let tls = settings.tls.as_ref().map(|tls| ("--tls-listen", tls.listen));
            for (name, address) in [("--listen", settings.listen)].into_iter().chain(tls) {
                if !is_loopback(address.ip()) && settings.authorize.is_none() {
                    settings.warnings.push(format!(
                        "--auth none on {name} {address}: everyone who reaches it may subscribe and publish; --auth jwt asks for tokens."
                    ));
                }
            }
            for name in ["jwt_key_file", "jwt_key_url", "jwt_cookie", "jwt_issuer", "jwt_audience"] {
                if settings.layers.given.contains_key(name) {
                    settings.warnings.push(format!("{} does nothing without --auth jwt.", flag(name)));
                }
            }
            if settings.mercure_anonymous {
                settings.warnings.push("--mercure-anonymous does nothing without --auth jwt.".to_owned());
            }
        }
        Auth::Jwt { cookie: Some(_), .. } if settings.cors_origin == CorsOrigins::Any => {
            return Err(settings.refuse(
                "cors_origin",
                "with --jwt-cookie every page could act for a member who visits it",
                "name the origins that may",
            ));
        }
        Auth::Jwt { keys: KeySource::Url(url), .. } if url.scheme() == "http" && !is_loopback_url(url) => {
            settings.warnings.push(format!(
                "--jwt-key-url {url}: whoever is on the way may give keys of their own, and let in whom they like; https:// tells the issuer from others."
            ));
        }
        Auth::Jwt { .. } => {}
    }
    Ok(())
}
