//! The command line as typed: what was given, and nothing else. Defaults, files and the environment
//! are the business of [`crate::settings`], so every flag of a node is optional here and still text.

mod flags;
mod trace;

pub use flags::Flags;
pub use trace::TraceArgs;

use crate::backup::{BackupArgs, RestoreArgs};
use crate::client::bench::args::BenchArgs;
use crate::client::crowd::args::CrowdArgs;
use crate::settings::Role;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  fanfare                                          everything in one process on 127.0.0.1:8080
  fanfare all --listen 0.0.0.0:8080 --auth jwt --jwt-key-file keys.json
  fanfare frontend --dispatchers http://10.0.0.5:8081 --internal 10.0.0.7:8081 \\
          --cluster-secret-file /etc/fanfare/secret
  fanfare --config /etc/fanfare.toml --print-config   what would apply, and where it comes from
  fanfare subscribe live:42                        watch a topic
  fanfare publish live:42 like '{\"member\":\"ana\"}'  send an event to it

Settings come from defaults, then --config FILE (TOML), then FANFARE_* variables, then flags; the
later wins. --cluster-secret-file is cluster_secret_file in the file and FANFARE_CLUSTER_SECRET_FILE
in the environment, and so for every other. An empty variable counts as not set. Event types are set
in the file only, such as:
  [events.wave]
  class = \"ephemeral\"   # sum, latest, ephemeral or every
  ttl = \"5s\"            # ephemeral only; window = \"50ms\" belongs to sum, history = 1000, max_age = \"1h\" and pace = \"10/s\" to every

SIGHUP reads them again: limits, log, drain, origins, reactions and event types hold at once, and the log names
what waits for a restart.

Exit status: 0 after a clean drain, 1 when something failed, 2 for a setting that will not do.";

/// Live interactions (likes, comments, viewer counts, typing, presence) to everyone who is
/// watching, over Server-Sent Events. Without a command it is `fanfare all`.
#[derive(Parser)]
#[command(name = "fanfare", version, after_help = EXAMPLES, subcommand_value_name = "COMMAND")]
pub struct Args {
    /// What to do; nothing is the same as `all`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of a node given before the command's word.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// The words that may follow `fanfare`.
#[derive(Subcommand)]
pub enum Command {
    /// Run every role in one process, with an embedded key-value store and SQLite (the default)
    All(NodeArgs),
    /// Hold viewers' connections and write events to them
    Frontend(NodeArgs),
    /// Take events and send each to the frontends whose viewers want it
    Dispatcher(NodeArgs),
    /// Take likes, comments and messages, store them, and hand them to a dispatcher
    Backend(NodeArgs),
    /// Print the events of one or more topics as they happen
    Subscribe(SubscribeArgs),
    /// Send one event to a topic
    Publish(PublishArgs),
    /// Send one event, and draw its journey through every node until it is back on its own stream
    Trace(TraceArgs),
    /// Generate load, check that nothing is lost, and report latency, memory and CPU
    Bench(BenchArgs),
    /// Act like an audience: arrive, like in bursts, comment, chat, leave and come back; report what was lost
    Crowd(CrowdArgs),
    /// Mint a token for testing, and print it
    Token(TokenArgs),
    /// Say what on this box would hold a role back, and how many connections it allows
    Check(Box<CheckArgs>),
    /// Copy the embedded database to a new file, also while a node runs on it
    Backup(Box<BackupArgs>),
    /// Put a backup in the place of the embedded database of a node that is stopped
    Restore(Box<RestoreArgs>),
    /// Write manual pages or shell completions to a folder
    #[command(hide = true)]
    Generate(GenerateArgs),
}

/// The flags that every role takes. Their texts become typed values in [`crate::settings`], which
/// says what is wrong with one in terms of where it came from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NodeArgs {
    /// Read settings from this TOML file [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,
    /// Print the settings that would apply, as TOML, with where each came from, and exit
    #[arg(long, help_heading = "Settings")]
    pub print_config: bool,
    /// Log what passes this filter, such as info or fanfare=debug [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Settings")]
    pub log: Option<String>,
    /// Note the journey of one event in this many, checkpoint by checkpoint; 0 is none [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub trace_sample: Option<String>,

    /// Serve the public on this address and port; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", help_heading = "Listening")]
    pub listen: Option<String>,
    /// Serve other nodes and operators on this address and port [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS", help_heading = "Listening")]
    pub internal: Option<String>,
    /// Serve viewers and publishers by TLS at this address as well [default: none]
    #[arg(long, value_name = "ADDRESS", help_heading = "Listening")]
    pub tls_listen: Option<String>,
    /// Show the certificate in this PEM file, with those that vouch for it behind it; several by name, with commas between [default: none]
    #[arg(long, value_name = "FILE,…", help_heading = "Listening")]
    pub tls_cert: Option<Vec<String>>,
    /// Prove it by the private key in this PEM file; one a certificate, in their order [default: none]
    #[arg(long, value_name = "FILE,…", help_heading = "Listening")]
    pub tls_key: Option<Vec<String>>,
    /// Tell other nodes to reach the internal listener by this URL [default: the address it listens on]
    #[arg(long, value_name = "URL", help_heading = "Listening")]
    pub advertise: Option<String>,
    /// Share the public port with other processes on this box (SO_REUSEPORT) [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Listening")]
    pub reuse_port: Option<String>,
    /// Wait for sockets by io_uring, by epoll, or by whichever this machine has [default: auto]
    #[arg(long, value_name = "auto|uring|epoll", help_heading = "Listening")]
    pub io: Option<String>,
    /// Run one shard on each of this many cores, or of those listed, such as 0,2-3 [default: all]
    #[arg(long, value_name = "CORES", help_heading = "Listening")]
    pub cores: Option<String>,
    /// Spread the closing of streams over this time when told to stop [default: 1s, and 30s of a node among others]
    #[arg(long, value_name = "DURATION", help_heading = "Listening")]
    pub drain: Option<String>,
    /// Close a connection that has sent no request for this time; a load balancer's own must be shorter [default: 75s]
    #[arg(long, value_name = "DURATION", help_heading = "Listening")]
    pub idle_timeout: Option<String>,

    /// Keep subscriptions and history here: memory, redis://HOST or rediss://HOST [default: memory, for `all`]
    #[arg(long, value_name = "URL", help_heading = "Storage")]
    pub kv: Option<String>,
    /// Keep likes and comments here: sqlite:PATH or postgres://HOST/NAME [default: sqlite:fanfare.db, for `all`]
    #[arg(long, value_name = "URL", help_heading = "Storage")]
    pub db: Option<String>,
    /// Read the password for PostgreSQL from this file, so that it stands in no list of processes [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Storage")]
    pub db_password_file: Option<String>,
    /// Offer these reactions, with commas between [default: like,celebrate,support,love,insightful,funny]
    #[arg(long, value_name = "NAME,…", help_heading = "Storage")]
    pub reactions: Option<Vec<String>>,

    /// Reach dispatchers at these internal URLs, with commas between [default: none]
    #[arg(long, value_name = "URL,…", help_heading = "Cluster")]
    pub dispatchers: Option<Vec<String>>,
    /// Share the secret in this file with the other nodes of this data center [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub cluster_secret_file: Option<String>,
    /// Name the data center that this node is in [default: local]
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub dc: Option<String>,
    /// Send events on to the data center NAME by its dispatchers' internal URLs; repeatable [default: none]
    #[arg(long, value_name = "NAME=URL,…", help_heading = "Cluster")]
    pub peer: Option<Vec<String>>,
    /// Share the secret in this file with the data center NAME; repeatable [default: none]
    #[arg(long, value_name = "NAME=FILE", help_heading = "Cluster")]
    pub peer_secret_file: Option<Vec<String>>,
    /// Allow plain http:// to data centers beyond this box [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = "Cluster")]
    pub peer_insecure: Option<String>,

    /// Ask for tokens (jwt), or let everyone do everything (none) [default: none]
    #[arg(long, value_name = "none|jwt", help_heading = "Access")]
    pub auth: Option<String>,
    /// Check tokens by the secret, PEM key or JWKS in this file, read again when it changes [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub jwt_key_file: Option<String>,
    /// Check tokens by the JWKS that their issuer serves here, fetched again for a key that is not known [default: none]
    #[arg(long, value_name = "URL", help_heading = "Access")]
    pub jwt_key_url: Option<String>,
    /// Take tokens also from the cookie of this name [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Access")]
    pub jwt_cookie: Option<String>,
    /// Take only tokens of these issuers (iss), with commas between [default: none]
    #[arg(long, value_name = "ISSUER,…", help_heading = "Access")]
    pub jwt_issuer: Option<Vec<String>>,
    /// Take only tokens for one of these (aud), with commas between [default: none]
    #[arg(long, value_name = "AUDIENCE,…", help_heading = "Access")]
    pub jwt_audience: Option<Vec<String>>,
    /// Refuse tokens that live for longer, from iat or from now to exp [default: 3653d]
    #[arg(long, value_name = "TIME", help_heading = "Access")]
    pub jwt_max_life: Option<String>,
    /// Let pages of these origins use the API, with commas between, or * for any [default: none]
    #[arg(long, value_name = "ORIGIN,…", help_heading = "Access")]
    pub cors_origin: Option<Vec<String>>,
    /// Believe X-Forwarded-For from these addresses or networks, with commas between [default: none]
    #[arg(long, value_name = "NETWORK,…", help_heading = "Access")]
    pub trusted_proxy: Option<Vec<String>>,

    /// Hold this many connections in all; beyond it 503 [default: auto, what the open files allow]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_connections: Option<String>,
    /// Hold this many connections of one address (of IPv6, one /64); beyond it 429; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_address_connections: Option<String>,
    /// Take this many connections a second of one address; beyond it 429; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_address_connects: Option<String>,
    /// Take this many events a second of one member, or without tokens of one address; beyond it 429; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_publishes: Option<String>,
    /// Let one stream have this many topics, 1 to 100 [default: 100]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_topics: Option<String>,
    /// Open no more streams, and publish nothing, while this process has this much memory: a size such as 8GiB, or a share [default: 80%]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_memory: Option<String>,
    /// Hold this much for clients that read too slowly, over all of them: a size, or a share of the memory [default: auto, 15% of --max-memory]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_backlog: Option<String>,
    /// Open no more streams on a shard that takes longer to serve all its sockets once; 0s is no limit [default: 250ms]
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub max_turn: Option<String>,
}

/// The flags of `fanfare subscribe`. Not `Debug`, since they hold a token.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare subscribe live:42
  fanfare subscribe live:42 chat:7 --json --count 10 | jq .data")]
pub struct SubscribeArgs {
    /// Topics to watch, such as live:42; at least one
    #[arg(value_name = "TOPIC", required = true)]
    pub topics: Vec<String>,
    /// Connect to the frontend at this URL
    #[arg(long, env = "FANFARE_URL", hide_env = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Say that this member is watching [default: nobody]
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Resume after the event at this position, as an earlier stream's id: line gave it [default: from now on]
    #[arg(long, value_name = "POSITION")]
    pub last_event_id: Option<String>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env = true)]
    pub token: Option<String>,
    /// Print each event's data as it came, one a line [default: readable lines]
    #[arg(long)]
    pub json: bool,
    /// Stop after this many events [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// The flags of `fanfare publish`. Not `Debug`, since they hold a token.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare publish live:42 like '{\"member\":\"ana\"}'
  date +%s | fanfare publish clock:tick second")]
pub struct PublishArgs {
    /// Topic to send to, such as live:42
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Type of the event, such as like
    #[arg(value_name = "TYPE")]
    pub event_type: String,
    /// Data of the event as JSON [default: standard input, or null if that is a terminal]
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Send to the dispatcher at this URL
    #[arg(long, env = "FANFARE_URL", hide_env = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Key under which events of one type merge or replace one another [default: none]
    #[arg(long)]
    pub key: Option<String>,
    /// Identity of the event, so that a repeat is recognised [default: one is made]
    #[arg(long)]
    pub id: Option<String>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env = true)]
    pub token: Option<String>,
}

/// The flags of `fanfare token`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  openssl rand -base64 48 > secret
  fanfare all --auth jwt --jwt-key-file secret
  export FANFARE_TOKEN=$(fanfare token --key-file secret --sub ana --subscribe 'live:*')
  fanfare subscribe live:42

The algorithm is that of the key: HS256 for a secret, RS256, ES256 or EdDSA for a private key in PEM
(openssl genpkey -algorithm ed25519), whose public half the server gets: openssl pkey -pubout.

Exit status: 0, 1 when the token cannot be written, 2 for a key or a claim that will not do.")]
pub struct TokenArgs {
    /// Sign with the secret, the private PEM key, or the JWKS's secret in this file
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
    /// Insist on this algorithm: HS256, RS256, ES256 or EdDSA [default: that of the key]
    #[arg(long, value_name = "NAME")]
    pub alg: Option<String>,
    /// Name the key by this kid, for servers with several [default: none, or that of the JWKS's secret]
    #[arg(long, value_name = "NAME")]
    pub kid: Option<String>,
    /// Speak for this member [default: nobody]
    #[arg(long, value_name = "MEMBER")]
    pub sub: Option<String>,
    /// Allow subscribing to this topic, or to all that begin so with a * at the end; repeatable [default: none]
    #[arg(long, value_name = "TOPIC")]
    pub subscribe: Vec<String>,
    /// Allow publishing to this topic, or to all that begin so with a * at the end; repeatable [default: none]
    #[arg(long, value_name = "TOPIC")]
    pub publish: Vec<String>,
    /// Allow publishing events of this type, which is the platform's own, such as comment; repeatable [default: none]
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Let it expire after this time, such as 30s or 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
}

/// The flags of `fanfare check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare check
  fanfare check frontend --config /etc/fanfare/fanfare.toml --connections 1000000
  fanfare check --json | jq -r '.items[] | select(.status == \"advice\") | .remedy'

Exit status: 0 when the role runs here and the connections fit, also if there is advice; 1 when not;
2 for a setting that will not do.")]
pub struct CheckArgs {
    /// Check for this role, with the settings that it would have
    #[arg(value_name = "ROLE", default_value = "all", value_parser = ["all", "frontend", "dispatcher", "backend"])]
    pub role: String,
    /// Exit with 1 unless so many connections fit [default: only say how many would]
    #[arg(long, value_name = "N")]
    pub connections: Option<u64>,
    /// Reckon with so many processes of the role on this box
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub processes: u64,
    /// Print one JSON object [default: a table]
    #[arg(long)]
    pub json: bool,
    /// The settings of the role.
    #[command(flatten)]
    pub node: NodeArgs,
}

impl CheckArgs {
    fn role(&self) -> Role {
        match self.role.as_str() {
            "frontend" => Role::Frontend,
            "dispatcher" => Role::Dispatcher,
            "backend" => Role::Backend,
            _ => Role::All,
        }
    }
}

/// What `fanfare generate` writes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Generated {
    /// `fanfare.1` and one a command
    Man,
    /// For bash, zsh and fish
    Completions,
}

/// The flags of `fanfare generate`.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// What to write
    #[arg(value_name = "WHAT")]
    pub what: Generated,
    /// Write to this folder, which is made if it is not there
    #[arg(value_name = "FOLDER")]
    pub directory: PathBuf,
}

/// What the command line asks for.
pub enum Action {
    /// Run a node of this role.
    Run(Role, Flags),
    /// Watch topics.
    Subscribe(SubscribeArgs),
    /// Send an event.
    Publish(PublishArgs),
    /// Send an event, and draw its journey.
    Trace(TraceArgs),
    /// Generate load.
    Bench(BenchArgs),
    /// Act like an audience.
    Crowd(CrowdArgs),
    /// Mint a token.
    Token(TokenArgs),
    /// Look at this box for a node of this role.
    Check(Box<CheckArgs>, Role, Flags),
    /// Copy the database to this file.
    Backup(PathBuf, Flags),
    /// Put the backup in this file in the database's place.
    Restore(PathBuf, Flags),
    /// Write manual pages or completions.
    Generate(GenerateArgs),
}

impl Args {
    /// Joins flags before the command's word to those after it (which win), so that
    /// `fanfare --config F frontend` and `fanfare frontend --config F` are the same.
    ///
    /// # Errors
    /// A node's flags before a command that is not a role are a usage error.
    pub fn action(self) -> Result<Action, clap::Error> {
        let before = Flags::from(self.node);
        let (role, node) = match self.command {
            None => (Role::All, NodeArgs::default()),
            Some(Command::All(node)) => (Role::All, node),
            Some(Command::Frontend(node)) => (Role::Frontend, node),
            Some(Command::Dispatcher(node)) => (Role::Dispatcher, node),
            Some(Command::Backend(node)) => (Role::Backend, node),
            Some(Command::Subscribe(args)) => {
                return before.none_for("subscribe").map(|()| Action::Subscribe(args));
            }
            Some(Command::Publish(args)) => {
                return before.none_for("publish").map(|()| Action::Publish(args));
            }
            Some(Command::Trace(args)) => {
                return before.none_for("trace").map(|()| Action::Trace(args));
            }
            Some(Command::Bench(args)) => {
                return before.none_for("bench").map(|()| Action::Bench(args));
            }
            Some(Command::Crowd(args)) => {
                return before.none_for("crowd").map(|()| Action::Crowd(args));
            }
            Some(Command::Token(args)) => {
                return before.none_for("token").map(|()| Action::Token(args));
            }
            Some(Command::Generate(args)) => {
                return before.none_for("generate").map(|()| Action::Generate(args));
            }
            Some(Command::Backup(args)) => {
                return Ok(Action::Backup(args.path, Flags::from(args.node).over(before)));
            }
            Some(Command::Restore(args)) => {
                return Ok(Action::Restore(args.path, Flags::from(args.node).over(before)));
            }
            Some(Command::Check(args)) => {
                let (role, flags) = (args.role(), Flags::from(args.node.clone()).over(before));
                return Ok(Action::Check(args, role, flags));
            }
        };
        Ok(Action::Run(role, Flags::from(node).over(before)))
    }
}
