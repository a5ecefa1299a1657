//! Settings as resolved: defaults < `--config FILE` < `FANFARE_*` < flags, typed and checked, with
//! where each value came from. What a role lacks or cannot use is found here, before it serves.

mod events;
mod file;
mod limits;
mod print;
mod reload;
mod secret;
mod source;
mod tls;
mod validate;
mod values;

pub use crate::error::SettingsError;
pub use events::{Class, EventSettings, UnknownClass};
pub use ipnet::IpNet;
pub use limits::{Memory, Most};
pub use reload::Reloaded;
pub use secret::{Secret, mask};
pub use source::Source;
pub use tls::Tls;
pub use url::Url;
pub use values::{Cores, CorsOrigins, Database, Io, Kv};

use crate::args::Flags;
use crate::auth::Terms;
use crate::limits::TOKEN_EXPIRY_MAX;
use source::{Layers, Raw, flag};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::Fault;

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
#[derive(Clone, Debug)]
pub struct Settings {
    /// What this process does.
    pub role: Role,
    /// The public listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The public listener that speaks TLS.
    pub tls: Option<Tls>,
    /// The listener for nodes and operators; port 0 takes a free one.
    pub internal: SocketAddr,
    /// Where other nodes reach the internal listener; `None` is the address it listens on.
    pub advertise: Option<Url>,
    /// Whether the public port may be shared with other processes.
    pub reuse_port: bool,
    /// By what shards wait.
    pub io: Io,
    /// Where shards run.
    pub cores: Cores,
    /// How long the closing of streams is spread over, 0 s to 1 h.
    pub drain: Duration,
    /// How long a connection to the public listener may be without a request, in whole seconds, 1 s to 1 h.
    pub idle_timeout: Duration,
    /// The key-value store. Without meaning for a frontend.
    pub kv: Kv,
    /// The database. Without meaning for a frontend and a dispatcher.
    pub db: Database,
    /// The reactions that a like may have, at least one, each once.
    pub reactions: Vec<String>,
    /// Internal URLs of dispatchers. Without meaning for `all` and a dispatcher.
    pub dispatchers: Vec<Url>,
    /// The secret of this data center's nodes.
    pub cluster_secret: Option<Secret>,
    /// The name of this data center.
    pub dc: String,
    /// The other data centers by name.
    pub peers: BTreeMap<String, Peer>,
    /// Whether peers beyond this box may be reached by plain HTTP.
    pub peer_insecure: bool,
    /// Who may do what.
    pub auth: Auth,
    /// Whose pages may use the API.
    pub cors_origins: CorsOrigins,
    /// Whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The filter of log lines.
    pub log: String,
    /// The journey of one event in so many is noted; 0 is none.
    pub trace_sample: u32,
    /// How much of what this node gives.
    pub most: Most,
    /// The event types with settings of their own, the built-in ones among them; see
    /// [`Settings::event`] for the rest.
    pub events: BTreeMap<String, EventSettings>,
    /// What the operator should be told at start, in whole sentences.
    pub warnings: Vec<String>,
    layers: Layers,
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
        let mut layers = Layers::defaults();
        if let Some((path, origin)) = config(flags, &environment) {
            let text = std::fs::read_to_string(&path).map_err(|error| SettingsError::Unreadable {
                path: path.clone(),
                origin,
                error,
            })?;
            file::lay(&mut layers, &path, &text)?;
        }
        let warnings = layers.environment(&environment)?;
        layers.flags(flags)?;
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
        let mut settings = Settings::of(role, layers)?;
        if settings.is_alone() {
            // While it drains its clients have nobody: the sooner it is back, the better.
            settings.layers.default_to("drain", "1s");
            settings.drain = settings.layers.one("drain", values::drain)?.expect(GIVEN);
        }
        Ok(settings)
    }

    fn of(role: Role, layers: Layers) -> Result<Settings, SettingsError> {
        Ok(Settings {
            role,
            listen: layers.one("listen", values::address)?.expect(GIVEN),
            tls: tls::resolve(&layers)?,
            internal: layers.one("internal", values::address)?.expect(GIVEN),
            advertise: layers.one("advertise", values::node_url)?,
            reuse_port: layers.one("reuse_port", values::switch)?.expect(GIVEN),
            io: layers.one("io", values::io)?.expect(GIVEN),
            cores: layers.one("cores", values::cores)?.expect(GIVEN),
            drain: layers.one("drain", values::drain)?.expect(GIVEN),
            idle_timeout: layers.one("idle_timeout", values::idle_timeout)?.expect(GIVEN),
            kv: layers.one("kv", values::kv)?.expect(GIVEN),
            db: database(&layers)?,
            reactions: layers.list("reactions", values::reaction)?,
            dispatchers: layers.list("dispatchers", values::node_url)?,
            cluster_secret: layers.one("cluster_secret_file", secret)?,
            dc: layers.one("dc", values::data_center)?.expect(GIVEN),
            peers: peers(&layers)?,
            peer_insecure: layers.one("peer_insecure", values::switch)?.expect(GIVEN),
            auth: auth(&layers)?,
            cors_origins: cors_origins(&layers)?,
            trusted_proxies: layers.list("trusted_proxy", values::network)?,
            log: layers.one("log", values::log_filter)?.expect(GIVEN),
            trace_sample: layers.one("trace_sample", values::trace_sample)?.expect(GIVEN),
            most: Most::resolve(&layers)?,
            events: events::resolve(&layers)?,
            warnings: Vec::new(),
            layers,
        })
    }
}

impl Layers {
    fn one<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(raw) = self.plain.get(name) else {
            return Ok(None);
        };
        let text = raw.values.concat();
        parse(&text).map(Some).map_err(|fault| invalid(flag(name), &text, &raw.origin, fault))
    }

    fn list<T: PartialEq>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Vec<T>, SettingsError> {
        match self.plain.get(name) {
            Some(raw) => typed_list(flag(name), raw, parse),
            None => Ok(Vec::new()),
        }
    }
}

fn typed_list<T: PartialEq>(
    setting: String,
    raw: &Raw,
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, SettingsError> {
    let mut items = Vec::with_capacity(raw.values.len());
    for text in &raw.values {
        let item = parse(text).and_then(|item| match items.contains(&item) {
            true => values::fault("given twice", "give it once"),
            false => Ok(item),
        });
        items.push(item.map_err(|fault| invalid(setting.clone(), text, &raw.origin, fault))?);
    }
    Ok(items)
}

fn invalid(setting: String, value: &str, origin: &Source, fault: Fault) -> SettingsError {
    SettingsError::Invalid {
        setting,
        value: mask(value),
        origin: Box::new(origin.clone()),
        problem: fault.problem,
        remedy: fault.remedy,
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

fn secret(path: &str) -> Result<Secret, Fault> {
    Secret::read(Path::new(path)).or_else(|problem| {
        values::fault(problem, "give a file that holds the secret, such as `openssl rand -hex 32` prints, and perhaps the previous one on the next line")
    })
}

/// Why a setting with a default has a value.
const GIVEN: &str = "the defaults hold this setting";

/// The database, and the file of its password where that is set.
fn database(layers: &Layers) -> Result<Database, SettingsError> {
    let db = layers.one("db", values::database)?.expect(GIVEN);
    let with_file = |path: &str| {
        std::fs::metadata(path)
            .or_else(|error| values::fault(error.to_string(), "give a file that this user may read"))?;
        match &db {
            Database::Postgres(url) => Ok(Database::Postgres(values::with_password_file(url, path)?)),
            Database::Sqlite(_) => {
                values::fault("--db is no PostgreSQL", "give --db postgres://USER@HOST/NAME, or leave it out")
            }
        }
    };
    Ok(layers.one("db_password_file", with_file)?.unwrap_or(db))
}

fn peers(layers: &Layers) -> Result<BTreeMap<String, Peer>, SettingsError> {
    let mut peers = BTreeMap::new();
    for (name, raw) in layers.named.get("peer").into_iter().flatten() {
        let setting = format!("--peer {name}");
        values::data_center(name).map_err(|fault| invalid("--peer".to_owned(), name, &raw.origin, fault))?;
        let urls = typed_list(setting.clone(), raw, values::node_url)?;
        if urls.is_empty() {
            let fault = Fault {
                problem: "no URL".to_owned(),
                remedy: "give the internal URL of one of its dispatchers".to_owned(),
            };
            return Err(invalid(setting, "", &raw.origin, fault));
        }
        peers.insert(name.clone(), Peer { urls, secret: None });
    }
    for (name, raw) in layers.named.get("peer_secret_file").into_iter().flatten() {
        let text = raw.values.concat();
        let setting = format!("--peer-secret-file {name}");
        let peer = match peers.get_mut(name) {
            Some(peer) => Ok(peer),
            None => values::fault("no --peer has this name", format!("give --peer {name}=URL, or leave it out")),
        };
        let taken = peer.and_then(|peer| secret(&text).map(|secret| peer.secret = Some(secret)));
        taken.map_err(|fault| invalid(setting, &text, &raw.origin, fault))?;
    }
    Ok(peers)
}

fn auth(layers: &Layers) -> Result<Auth, SettingsError> {
    let jwt = layers.one("auth", |text| match text {
        "none" => Ok(false),
        "jwt" => Ok(true),
        _ => values::fault("not a way to tell who may do what", "give none or jwt"),
    })?;
    let cookie = layers.one("jwt_cookie", values::cookie)?;
    // Checked even if it has no use, so that a slip is found before somebody turns tokens on.
    let key_file = layers.one("jwt_key_file", |path| match std::fs::read(path) {
        Ok(key) if key.trim_ascii().is_empty() => values::fault("the file is empty", "give a file with a key"),
        Ok(_) => Ok(PathBuf::from(path)),
        Err(error) => values::fault(error.to_string(), "give a file that this user may read"),
    })?;
    let text = |text: &str| match text.trim() {
        "" => values::fault("it says nothing", "give the text that tokens have, such as https://id.example"),
        text => Ok(text.to_owned()),
    };
    let (issuers, audiences) = (layers.list("jwt_issuer", text)?, layers.list("jwt_audience", text)?);
    let life = layers.one("jwt_max_life", values::life)?.unwrap_or(TOKEN_EXPIRY_MAX);
    let terms = Terms { issuers, audiences, life };
    let keys = match (key_file, layers.one("jwt_key_url", values::key_url)?) {
        (Some(_), Some(_)) => {
            let raw = &layers.plain["jwt_key_url"];
            let problem = "--jwt-key-file says by what tokens are checked".to_owned();
            let fault = Fault { problem, remedy: "give one of the two".to_owned() };
            return Err(invalid("--jwt-key-url".to_owned(), &raw.values.concat(), &raw.origin, fault));
        }
        (file, url) => file.map(KeySource::File).or(url.map(KeySource::Url)),
    };
    match (jwt, keys) {
        (Some(true), Some(keys)) => Ok(Auth::Jwt { keys, cookie, terms }),
        (Some(true), None) => Err(SettingsError::Missing {
            setting: "--jwt-key-file".to_owned(),
            problem: "--auth jwt needs it".to_owned(),
            remedy: "give a file with the secret, PEM key or JWKS that tokens are checked by, or the URL of an issuer's JWKS (--jwt-key-url)".to_owned(),
        }),
        _ => Ok(Auth::None),
    }
}

fn cors_origins(layers: &Layers) -> Result<CorsOrigins, SettingsError> {
    let origins = layers.list("cors_origin", values::origin)?;
    if !origins.iter().any(|origin| origin == "*") {
        return Ok(CorsOrigins::Listed(origins));
    }
    if origins.len() == 1 {
        return Ok(CorsOrigins::Any);
    }
    let raw = &layers.plain["cors_origin"];
    let fault = Fault {
        problem: "* allows every origin, so the others say nothing".to_owned(),
        remedy: "give * alone, or the origins without it".to_owned(),
    };
    Err(invalid("--cors-origin".to_owned(), &raw.values.join(","), &raw.origin, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Action, Args};
    use clap::Parser;
    use std::os::unix::ffi::OsStringExt;

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
        assert_eq!(settings.cors_origins, CorsOrigins::Any);
        assert_eq!(settings.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(settings.auth, Auth::None);
        assert_eq!(settings.origin("drain"), &Source::Flag("--drain".to_owned()));
        assert_eq!(settings.origin("listen").to_string(), "flag --listen");
        assert_eq!(settings.origin("internal"), &Source::Default);
    }

    #[test]
    fn an_empty_list_undoes_that_of_a_lower_layer() {
        let environment: [(&str, &[u8]); 1] = [("FANFARE_CORS_ORIGIN", b"https://a.example")];
        let listed = CorsOrigins::Listed(vec!["https://a.example".to_owned()]);
        assert_eq!(resolve("", &environment).unwrap().cors_origins, listed);
        let none = CorsOrigins::Listed(Vec::new());
        assert_eq!(resolve("--cors-origin=", &environment).unwrap().cors_origins, none);
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
        assert_eq!(settings.cluster_secret.as_ref().unwrap().expose(), "hunter2hunter2hunter2");
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
