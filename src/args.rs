//! The command line as typed: what was given, and nothing else. Defaults, files and the environment, and the flags of a
//! node, are the business of [`crate::settings`].

use crate::auth::mint::TokenArgs;
use crate::backup::{BackupArgs, RestoreArgs};
use crate::check::CheckArgs;
use crate::client::bench::args::BenchArgs;
use crate::client::crowd::args::CrowdArgs;
use crate::client::publish::PublishArgs;
use crate::client::subscribe::SubscribeArgs;
use crate::client::top::args::TopArgs;
use crate::client::trace::args::TraceArgs;
use crate::settings::{Flags, Role};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::path::PathBuf;

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

SIGHUP reads them again: limits and others hold at once (docs/settings.md says which), and the log names what waits
for a restart.

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
    pub node: Flags,
}

/// The words that may follow `fanfare`.
#[derive(Subcommand)]
pub enum Command {
    /// Run every role in one process, with an embedded key-value store and SQLite (the default)
    All(Flags),
    /// Hold viewers' connections and write events to them
    Frontend(Flags),
    /// Take events and send each to the frontends whose viewers want it
    Dispatcher(Flags),
    /// Take likes, comments and messages, store them, and hand them to a dispatcher
    Backend(Flags),
    /// Print the events of one or more topics as they happen
    Subscribe(SubscribeArgs),
    /// Send one event to a topic
    Publish(PublishArgs),
    /// Send one event, and draw its journey through every node until it is back on its own stream
    Trace(TraceArgs),
    /// Show a node and its cluster live in a terminal: who is late, what is dropped, where it is busy
    Top(TopArgs),
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
    /// Show a node live.
    Top(TopArgs),
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
        let before = self.node;
        let client = |name: &str, action| none_for(&before, name).map(|()| action);
        let (role, node) = match self.command {
            None => (Role::All, Flags::default()),
            Some(Command::All(node)) => (Role::All, node),
            Some(Command::Frontend(node)) => (Role::Frontend, node),
            Some(Command::Dispatcher(node)) => (Role::Dispatcher, node),
            Some(Command::Backend(node)) => (Role::Backend, node),
            Some(Command::Subscribe(args)) => return client("subscribe", Action::Subscribe(args)),
            Some(Command::Publish(args)) => return client("publish", Action::Publish(args)),
            Some(Command::Trace(args)) => return client("trace", Action::Trace(args)),
            Some(Command::Top(args)) => return client("top", Action::Top(args)),
            Some(Command::Bench(args)) => return client("bench", Action::Bench(args)),
            Some(Command::Crowd(args)) => return client("crowd", Action::Crowd(args)),
            Some(Command::Token(args)) => return client("token", Action::Token(args)),
            Some(Command::Generate(args)) => return client("generate", Action::Generate(args)),
            Some(Command::Backup(args)) => return Ok(Action::Backup(args.path, args.node.over(before))),
            Some(Command::Restore(args)) => return Ok(Action::Restore(args.path, args.node.over(before))),
            Some(Command::Check(args)) => {
                let (role, flags) = (args.role(), args.node.clone().over(before));
                return Ok(Action::Check(args, role, flags));
            }
        };
        Ok(Action::Run(role, node.over(before)))
    }
}

/// Refuses flags of a node in front of a client's command, where they would do nothing.
fn none_for(flags: &Flags, command: &str) -> Result<(), clap::Error> {
    let Some(name) = flags.first() else { return Ok(()) };
    let flag = name.replace('_', "-");
    let message = format!("--{flag} sets up a node and does nothing for `fanfare {command}`");
    Err(Args::command().error(ErrorKind::ArgumentConflict, message))
}
