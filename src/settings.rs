//! Settings as resolved: defaults < `--config FILE` < `FANFARE_*` < flags, typed and checked, with
//! where each value came from. What a role lacks or cannot use is found here, before it serves.

mod access;
mod environment;
mod error;
mod events;
mod file;
mod flags;
mod hooks;
mod layers;
mod limits;
mod listing;
mod log;
mod print;
mod reload;
mod secret;
mod setting;
mod tls;
mod validate;
mod values;

pub use access::CorsOrigins;
pub use error::SettingsError;
pub use events::{Class, EventSettings, UnknownClass};
pub use flags::Flags;
pub use hooks::{Hook, keys as hook_keys};
pub use ipnet::IpNet;
pub use layers::Source;
pub use limits::Memory;
pub use listing::{LISTING, Listed, Most};
pub use log::{Tracked, log_parts};
pub use reload::Reloaded;
pub use secret::{Secret, mask};
pub use setting::Setting;
pub use tls::Tls;
pub use url::Url;
pub use values::{Cores, Database, Io, Kv};

use crate::auth::Terms;
use layers::{Fault, Field, Layers};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, for one box.
    All,
    /// Holds viewers' connections.
    Frontend,
    /// Finds the frontends that want an event.
    Dispatcher,
    /// Stores interactions.
    Backend,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Role::All => "all",
            Role::Frontend => "frontend",
            Role::Dispatcher => "dispatcher",
            Role::Backend => "backend",
        })
    }
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everyone may do everything.
    None,
    /// Tokens decide.
    Jwt {
        /// What they are checked by.
        keys: KeySource,
        /// The cookie that may carry a token.
        cookie: Option<String>,
        /// What is asked of tokens beside.
        terms: Terms,
    },
}

/// Where the keys are that tokens are checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A secret, a PEM key or a JWKS; it was readable when the settings were resolved.
    File(PathBuf),
    /// A JWKS that an issuer serves.
    Url(Url),
}

/// Another data center.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its dispatchers' internal URLs, at least one.
    pub urls: Vec<Url>,
    /// The secret shared with it, good for broadcasts only.
    pub secret: Option<Secret>,
}

/// Everything that a role needs to know before it starts. `Debug` shows no secret.
///
/// What is listed by itself reads as a field of this, such as `settings.listen`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What this process does.
    pub role: Role,
    /// Those of the listing, each by itself.
    listed: Listed,
    /// How much of what this node gives.
    pub most: Most,
    /// The public listener that speaks TLS.
    pub tls: Option<Tls>,
    /// The other data centers by name.
    pub peers: BTreeMap<String, Peer>,
    /// Who may do what.
    pub auth: Auth,
    /// The event types with settings of their own, the built-in ones among them; see
    /// [`Settings::event`] for the rest.
    pub events: BTreeMap<String, EventSettings>,
    /// Who is told of what happens; nobody by a role that stores nothing.
    pub hooks: Vec<Hook>,
    /// What the operator should be told at start, in whole sentences.
    pub warnings: Vec<String>,
    layers: Layers,
}

impl Deref for Settings {
    type Target = Listed;

    fn deref(&self) -> &Listed {
        &self.listed
    }
}

impl Settings {
    /// Lays the layers over one another, makes typed values of them, and checks what `role` needs.
    /// Reads the configuration file and the files of secrets; `environment` is that of the process.
    ///
    /// # Errors
    /// The first setting that will not do.
    pub fn resolve(
        role: Role,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, SettingsError> {
        let environment: BTreeMap<OsString, OsString> = environment.into_iter().collect();
        let mut layers = Layers::default();
        for setting in LISTING.iter().filter(|setting| !setting.default.is_empty()) {
            layers.set(setting, vec![setting.default.to_owned()], Source::Default)?;
        }
        if let Some((path, origin)) = config(flags, &environment) {
            let text = std::fs::read_to_string(&path).map_err(|error| SettingsError::Unreadable {
                path: path.clone(),
                origin,
                error,
            })?;
            file::lay(&mut layers, &path, &text)?;
        }
        let warnings = environment::lay(&mut layers, &environment)?;
        for setting in LISTING {
            if let Some(texts) = flags.given.0.get(setting.name) {
                layers.set(setting, texts.clone(), Source::Flag(setting.flag()))?;
            }
        }
        let mut settings = Settings::typed(role, layers)?;
        settings.warnings = warnings;
        validate::check(&mut settings)?;
        Ok(settings)
    }

    /// The settings of an event type; one that nobody configured is `ephemeral`.
    pub fn event(&self, event_type: &str) -> EventSettings {
        match self.events.get(event_type) {
            Some(event) => event.clone(),
            None => EventSettings::of(event_type, Class::Ephemeral),
        }
    }

    /// Whether its clients can go nowhere else: every role in one process, which knows no other.
    pub fn is_alone(&self) -> bool {
        self.role == Role::All && self.kv == Kv::Memory && self.peers.is_empty()
    }

    fn typed(role: Role, layers: Layers) -> Result<Settings, SettingsError> {
        let mut listed = Listed::read(&layers)?;
        listed.db = database(&listed, &layers)?;
        let hooks = match role {
            Role::All | Role::Backend => hooks::resolve(&layers, listed.hook_insecure)?,
            Role::Frontend | Role::Dispatcher => Vec::new(),
        };
        let mut settings = Settings {
            role,
            most: Most::read(&layers)?,
            tls: tls::resolve(&listed)?,
            peers: peers(&listed, &layers)?,
            auth: auth(&listed, &layers)?,
            events: events::resolve(&layers)?,
            hooks,
            warnings: Vec::new(),
            listed,
            layers,
        };
        // While one that is alone drains, its clients have nobody: the sooner it is back, the better.
        settings.layers.default_to("drain", if settings.is_alone() { "1s" } else { "30s" });
        settings.listed.drain = Field::read(&settings.layers, "drain", values::drain)?;
        Ok(settings)
    }
}

fn config(flags: &Flags, environment: &BTreeMap<OsString, OsString>) -> Option<(PathBuf, Source)> {
    const VARIABLE: &str = "FANFARE_CONFIG";
    if let Some(path) = &flags.config {
        return Some((path.clone(), Source::Flag("--config".to_owned())));
    }
    let path = environment.get(&OsString::from(VARIABLE)).filter(|path| !path.is_empty())?;
    Some((PathBuf::from(path), Source::Environment(VARIABLE.to_owned())))
}

/// The database, with the file of its password where that is set.
fn database(listed: &Listed, layers: &Layers) -> Result<Database, SettingsError> {
    let Some(path) = &listed.db_password_file else { return Ok(listed.db.clone()) };
    let with_file = match &listed.db {
        Database::Postgres(url) => values::with_password_file(url, path).map(Database::Postgres),
        Database::Sqlite(_) => {
            layers::fault("--db is no PostgreSQL", "give --db postgres://USER@HOST/NAME, or leave it out")
        }
    };
    let refuse =
        |fault: Fault| layers.given["db_password_file"][""].refuse("db_password_file", &fault.problem, &fault.remedy);
    with_file.map_err(refuse)
}

fn peers(listed: &Listed, layers: &Layers) -> Result<BTreeMap<String, Peer>, SettingsError> {
    let mut peers = BTreeMap::new();
    for (name, urls) in &listed.peer {
        let origin = &layers.given["peer"][name].origin;
        values::data_center(name).map_err(|fault| origin.refuse("--peer", name, fault))?;
        if urls.is_empty() {
            let remedy = "give the internal URL of one of its dispatchers".to_owned();
            return Err(origin.refuse(format!("--peer {name}"), "", Fault { problem: "no URL".to_owned(), remedy }));
        }
        let secret = listed.peer_secret_file.get(name).cloned();
        peers.insert(name.clone(), Peer { urls: urls.clone(), secret });
    }
    if let Some((name, raw)) = layers.named("peer_secret_file").find(|(name, _)| !peers.contains_key(*name)) {
        let remedy = format!("give --peer {name}=URL, or leave it out");
        let fault = Fault { problem: "no --peer has this name".to_owned(), remedy };
        return Err(raw.origin.refuse(format!("--peer-secret-file {name}"), &raw.values.concat(), fault));
    }
    Ok(peers)
}

fn auth(listed: &Listed, layers: &Layers) -> Result<Auth, SettingsError> {
    // Looked at even if it has no use, so that a slip is found before somebody turns tokens on.
    if let (Some(_), Some(raw)) = (&listed.jwt_key_file, layers.get("jwt_key_url")) {
        let problem = "--jwt-key-file says by what tokens are checked";
        return Err(raw.refuse("jwt_key_url", problem, "give one of the two"));
    }
    if !listed.auth {
        return Ok(Auth::None);
    }
    let file = listed.jwt_key_file.clone().map(KeySource::File);
    let Some(keys) = file.or_else(|| listed.jwt_key_url.clone().map(KeySource::Url)) else {
        let remedy = "give a file with the secret, PEM key or JWKS that tokens are checked by, or the URL of an issuer's JWKS (--jwt-key-url)";
        return Err(SettingsError::missing("--jwt-key-file", "--auth jwt needs it", remedy));
    };
    let terms =
        Terms { issuers: listed.jwt_issuer.clone(), audiences: listed.jwt_audience.clone(), life: listed.jwt_max_life };
    Ok(Auth::Jwt { keys, cookie: listed.jwt_cookie.clone(), terms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Action, Args};
    use clap::Parser;
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    fn resolve(line: &str, environment: &[(&str, &[u8])]) -> Result<Settings, SettingsError> {
        let words = ["fanfare"].into_iter().chain(line.split_whitespace());
        let Action::Run(role, flags) = Args::try_parse_from(words).unwrap().action().unwrap() else {
            panic!("{line} runs no role");
        };
        let variable = |(name, value): &(&str, &[u8])| (OsString::from(name), OsString::from_vec(value.to_vec()));
        Settings::resolve(role, &flags, environment.iter().map(variable))
    }

    #[test]
    fn flags_become_typed_values() {
        let line = "dispatcher --kv rediss://kv --listen [::1]:0 --cores 1 --drain 1500ms --dc eu \
                    --peer us=https://localhost,https://127.0.0.1:8081 --cors-origin * --trusted-proxy 10.0.0.0/8";
        let settings = resolve(line, &[]).unwrap();
        assert_eq!(settings.role, Role::Dispatcher);
        assert_eq!(settings.kv, Kv::Redis("rediss://kv".to_owned()));
        assert_eq!(settings.listen, "[::1]:0".parse().unwrap());
        assert_eq!(settings.cores, Cores::Count(1.try_into().unwrap()));
        assert_eq!(settings.drain, Duration::from_millis(1500));
        assert_eq!(settings.peers["us"].urls[1].port(), Some(8081));
        assert_eq!(settings.cors_origin, CorsOrigins::Any);
        assert_eq!(settings.trusted_proxy, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(settings.auth, Auth::None);
        assert_eq!(settings.origin("drain"), &Source::Flag("--drain".to_owned()));
        assert_eq!(settings.origin("listen").to_string(), "flag --listen");
        assert_eq!(settings.origin("internal"), &Source::Default);
    }

    #[test]
    fn an_empty_list_undoes_that_of_a_lower_layer() {
        let environment: [(&str, &[u8]); 1] = [("FANFARE_CORS_ORIGIN", b"https://a.example")];
        let listed = CorsOrigins::Listed(vec!["https://a.example".to_owned()]);
        assert_eq!(resolve("", &environment).unwrap().cors_origin, listed);
        let none = CorsOrigins::Listed(Vec::new());
        assert_eq!(resolve("--cors-origin=", &environment).unwrap().cors_origin, none);
    }

    #[test]
    fn a_type_that_nobody_configured_is_ephemeral() {
        let settings = resolve("", &[]).unwrap();
        assert_eq!(settings.event("wave"), EventSettings::of("wave", Class::Ephemeral));
        assert_eq!(settings.event("like").class, Class::Sum);
    }

    #[test]
    fn debug_shows_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2hunter2hunter2").unwrap();
        let line =
            format!("--kv redis://:hunter2@kv --db postgres://a:hunter2@db/f --cluster-secret-file {}", file.display());
        let settings = resolve(&line, &[]).unwrap();
        assert_eq!(settings.cluster_secret_file.as_ref().unwrap().expose(), "hunter2hunter2hunter2");
        let shown = format!("{settings:?}");
        assert!(shown.contains("redis://:***@kv") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_variable_that_is_not_utf8_is_refused_and_others_are_left_alone() {
        let error = resolve("", &[("FANFARE_DC", b"\xff")]).unwrap_err();
        assert!(error.to_string().contains("environment FANFARE_DC"), "{error}");
        assert!(resolve("", &[("PATH", b"\xff"), ("FANFAREX", b"x")]).unwrap().warnings.is_empty());
    }

    #[test]
    fn a_role_can_refuse_a_setting_by_its_source() {
        let settings = resolve("--listen 127.0.0.1:80", &[]).unwrap();
        let error = settings.refuse("listen", "the port is taken", "give another port");
        let text = "--listen \"127.0.0.1:80\" (flag --listen): the port is taken; give another port";
        assert_eq!(error.to_string(), text);
    }
}
