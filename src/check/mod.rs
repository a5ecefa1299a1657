//! `fanfare check`: what on this box would hold a role back, and how many connections fit.
//!
//! [`items`] and [`capacity`] decide, from what [`host`] reads and what [`wanted`] asks for; nothing is changed.

pub mod capacity;
#[expect(unsafe_code, reason = "calls that only libc has")]
pub mod host;
pub mod items;
pub mod report;
pub mod surroundings;
pub mod wanted;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use crate::limits::{CHECK_CONNECTIONS_ALL, CHECK_CONNECTIONS_FRONTEND, CHECK_CONNECTIONS_OTHERS};
use crate::roles::{self, certificates};
use crate::runtime::cores;
use crate::settings::{Database, Flags, Io, Kv, Role, Settings, SettingsError, Url};
use capacity::Measured;
use host::Host;
use report::Report;
use surroundings::Disk;

/// Exit status for a setting that will not do.
const USAGE: u8 = 2;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The role.
    pub role: Role,
    /// By what its shards wait.
    pub io: Io,
    /// The processors of one process's shards.
    pub cores: Vec<usize>,
    /// The processors that this process may use.
    pub allowed: Vec<usize>,
    /// Processes of this kind on the box.
    pub processes: u64,
    /// The public listener.
    pub listen: SocketAddr,
    /// The internal listener.
    pub internal: SocketAddr,
    /// So many connections are expected, by which advice is sized.
    pub expected: u64,
    /// Ports of stores that are to be on this box.
    pub services: Vec<u16>,
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
    pub node: Flags,
}

impl CheckArgs {
    pub(crate) fn role(&self) -> Role {
        match self.role.as_str() {
            "frontend" => Role::Frontend,
            "dispatcher" => Role::Dispatcher,
            "backend" => Role::Backend,
            _ => Role::All,
        }
    }
}

/// Looks at everything and prints it. 0 when the role runs here and the connections asked for fit, also if there is
/// advice; 1 when not; 2 for settings that will not do.
pub fn run(args: &CheckArgs, settings: &Settings) -> ExitCode {
    let report = match check(args, settings) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(io::stderr(), "fanfare: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let mut stdout = io::stdout();
    let text = if args.json {
        report.to_json() + "\n"
    } else {
        let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        report.to_table(colour)
    };
    // A reader such as `head` may have gone; the exit status still tells.
    let _ = stdout.write_all(text.as_bytes());
    if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(args: &CheckArgs, settings: &Settings) -> Result<Report, SettingsError> {
    certificates::watch(settings)?;
    let configured = settings.most.connections.map(|connections| connections as u64);
    let subject = Subject {
        role: settings.role,
        io: settings.io,
        cores: roles::choose_cores(settings)?,
        allowed: cores::available(),
        processes: args.processes,
        listen: settings.listen,
        internal: settings.internal,
        expected: args.connections.or(configured).unwrap_or(usual(settings.role)),
        services: services(settings),
    };
    // What the role does first: executors on cores of their own, with the memory and the rings that they will have.
    let executor = if subject.io == Io::Epoll { Ok(()) } else { cores::try_rings(&subject.cores) };
    let host = Host::this();
    let found = Found {
        executor,
        open_files: host::open_files(),
        locked_memory: host::locked_memory(),
        clock: host::clock(),
        tracked: host::tracked_connections(&host),
        page_bytes: rustix::param::page_size() as u64,
        disk: matches!(settings.role, Role::All | Role::Backend).then(|| Disk::of(&settings.db)).flatten(),
    };
    Ok(evaluate(&host, &subject, &found, args.connections))
}

/// What was asked of the kernel by calls, which are not in its file system.
struct Found {
    executor: io::Result<()>,
    open_files: host::Limit,
    locked_memory: host::Limit,
    clock: io::Result<host::ClockState>,
    tracked: Option<u64>,
    page_bytes: u64,
    disk: Option<Disk>,
}

/// Connections that a role is checked for where nobody says how many.
fn usual(role: Role) -> u64 {
    match role {
        Role::Frontend => CHECK_CONNECTIONS_FRONTEND,
        Role::All => CHECK_CONNECTIONS_ALL,
        // Of other nodes, and of publishers.
        Role::Dispatcher | Role::Backend => CHECK_CONNECTIONS_OTHERS,
    }
}

/// Ports of the stores in the settings that are on this box.
fn services(settings: &Settings) -> Vec<u16> {
    let mut urls = Vec::new();
    if let (Kv::Redis(url), Role::All | Role::Dispatcher) = (&settings.kv, settings.role) {
        urls.push((url, 6379));
    }
    if let (Database::Postgres(url), Role::All | Role::Backend) = (&settings.db, settings.role) {
        urls.push((url, 5432));
    }
    let port = |(url, usual): (&String, u16)| {
        let url = Url::parse(url).ok()?;
        let is_here = matches!(url.host_str()?, "localhost" | "127.0.0.1" | "::1" | "[::1]");
        is_here.then(|| url.port().unwrap_or(usual))
    };
    urls.into_iter().filter_map(port).collect()
}

/// Decides, without asking anything but `host`.
fn evaluate(host: &Host, subject: &Subject, found: &Found, connections: Option<u64>) -> Report {
    let sysctls = wanted::all();
    let proxies = surroundings::proxies(subject, host);
    let memory = host.memory("MemTotal");
    let expected = connections.unwrap_or(subject.expected);
    let mut items = vec![
        items::kernel(host, subject.io),
        items::executor(&found.executor, subject.io),
        items::io_uring(host, &found.executor, subject.io),
        items::locked_memory(found.locked_memory, subject.io),
        items::open_files(found.open_files, subject, expected),
        items::cores(subject),
        items::siblings(subject, host),
        items::numa(subject, host),
        items::governor(subject, host),
        items::huge_pages(host),
        items::clock(&found.clock),
        items::clock_source(host),
        items::conntrack(host, found.tracked),
        items::ports(subject, host),
        surroundings::swap(host),
        surroundings::quota(subject, host),
    ];
    items.extend(surroundings::disk(found.disk.as_ref()));
    items.extend(surroundings::proxy_files(&proxies, expected));
    items.extend(items::cards(subject, host));
    items.extend(sysctls.iter().map(|wanted| items::sysctl(wanted, host, memory, found.tracked, expected)));
    let measured = Measured { open_files: found.open_files, tracked: found.tracked, page_bytes: found.page_bytes };
    Report {
        role: subject.role.to_string(),
        processes: subject.processes,
        cores: subject.cores.clone(),
        listen: subject.listen.to_string(),
        verdict: Report::worst(&items),
        items,
        expected,
        connections: capacity::capacity(host, subject, &measured, &proxies, connections),
    }
}
