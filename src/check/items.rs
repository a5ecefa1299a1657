//! Each thing that is looked at: found, wanted, what it costs, what to do.

use std::io;

use serde::Serialize;

use super::Subject;
use super::host::{ClockState, Host, Limit};
use super::surroundings::ports_at_risk;
use super::wanted::Wanted;
use crate::limits::{CHECK_CLOCK_ERROR_MAX_US, FILES_PER_PROCESS, FILES_PER_SHARD, KERNEL_MIN, MEMLOCK_BYTES_MIN};
use crate::runtime::cores;
use crate::settings::Io;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As wanted.
    Ok,
    /// It costs something; the role runs all the same.
    Advice,
    /// The role does not run.
    Blocked,
    /// This process may not see it.
    Unknown,
    /// This kernel or box does not have it, or does not need it.
    Absent,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name; that of the file below `/proc/sys` for a kernel setting.
    pub item: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// What it costs if it is not so.
    pub cost: String,
    /// What to do about it.
    pub remedy: String,
}

impl Item {
    pub(super) fn new(item: &str, status: Status, found: impl Into<String>, wanted: impl Into<String>) -> Item {
        let (item, found, wanted) = (item.to_owned(), found.into(), wanted.into());
        Item { item, status, found, wanted, cost: String::new(), remedy: String::new() }
    }

    pub(super) fn costs(mut self, cost: &str, remedy: impl Into<String>) -> Item {
        (self.cost, self.remedy) = (cost.to_owned(), remedy.into());
        self
    }
}

pub(super) fn good_or(good: bool, otherwise: Status) -> Status {
    if good { Status::Ok } else { otherwise }
}

/// The script that sets what is wanted of the kernel, where it is on this box.
fn apply(host: &Host) -> &'static str {
    let packaged = "usr/share/fanfare/tuning/apply";
    if host.has(packaged) { "/usr/share/fanfare/tuning/apply" } else { "tuning/apply" }
}

/// A limit as text.
pub fn number_or_none(number: Option<u64>) -> String {
    number.map_or("unlimited".to_owned(), |number| number.to_string())
}

/// How it stands with what io_uring needs, where that is not there.
fn short(io: Io) -> Status {
    match io {
        Io::Uring => Status::Blocked,
        Io::Auto => Status::Advice,
        Io::Epoll => Status::Absent,
    }
}

/// What that costs.
fn cost(io: Io, otherwise: &'static str) -> &'static str {
    if io == Io::Uring { otherwise } else { cores::COST_ON_EPOLL }
}

/// The kernel's version, as `/proc` has it.
pub fn kernel(host: &Host, io: Io) -> Item {
    let (major, minor) = KERNEL_MIN;
    let wanted = format!("{major}.{minor} or later");
    let release = host.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(|byte: char| !byte.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let version = parts.next().flatten().zip(parts.next().flatten());
    let status = version.map_or(Status::Unknown, |version| good_or(version >= KERNEL_MIN, short(io)));
    Item::new("kernel", status, release, wanted).costs(
        cost(io, "shards use io_uring operations that older kernels lack"),
        "boot a newer kernel, such as that of Debian 12 or 13",
    )
}

/// Whether executors started on the role's cores, as shards will.
pub fn executor(started: &io::Result<()>, io: Io) -> Item {
    let (status, found) = match started {
        _ if io == Io::Epoll => (Status::Absent, "--io epoll asks for none".to_owned()),
        Ok(()) => (Status::Ok, "an executor started".to_owned()),
        Err(error) => (short(io), error.to_string()),
    };
    Item::new("io_uring", status, found, "an executor starts").costs(cost(io, cores::COST), cores::REMEDY)
}

/// Whether the kernel lets this user have io_uring, and whether it need not let everybody.
pub fn io_uring(host: &Host, started: &io::Result<()>, io: Io) -> Item {
    let (disabled, group) =
        (host.number("proc/sys/kernel/io_uring_disabled"), host.text("proc/sys/kernel/io_uring_group"));
    let status = match disabled {
        None => Status::Absent,
        Some(_) if io == Io::Epoll => Status::Absent,
        // Restricted to a group, which is this user's if an executor started.
        Some(0) => Status::Ok,
        Some(_) => good_or(started.is_ok(), Status::Advice),
    };
    let found = match (disabled, group) {
        (Some(disabled), Some(group)) => format!("{disabled}, kernel.io_uring_group = {group}"),
        (disabled, _) => disabled.map(|disabled| disabled.to_string()).unwrap_or_default(),
    };
    Item::new("kernel.io_uring_disabled", status, found, "0, or 1 with Fanfare's group as kernel.io_uring_group").costs(
        cost(io, cores::COST),
        format!(
            "{}, which lets the group fanfare have it and nobody else: kernel.io_uring_group = that group's number, then \
             kernel.io_uring_disabled = 1",
            apply(host)
        ),
    )
}

/// Open files of one process.
pub fn open_files(limit: Limit, subject: &Subject, connections: u64) -> Item {
    let most = connections.div_ceil(subject.processes) + files_reserved(subject);
    let status = good_or(limit.hard.is_none_or(|hard| hard >= most), Status::Advice);
    let found = format!("soft {}, hard {}", number_or_none(limit.soft), number_or_none(limit.hard));
    Item::new("open files", status, found, format!("hard at least {most}")).costs(
        "each connection is an open file; past the hard limit (Fanfare raises the soft one to it) viewers are refused",
        format!("LimitNOFILE={most} in the unit, /etc/security/limits.d for a login (tuning/limits.conf), or ulimit -Hn {most} as root"),
    )
}

/// Open files of a process that are not connections, at most.
pub fn files_reserved(subject: &Subject) -> u64 {
    FILES_PER_PROCESS + FILES_PER_SHARD * subject.cores.len() as u64
}

/// Memory that may be locked. The executor refuses to start below a fixed bound, by the soft limit.
pub fn locked_memory(limit: Limit, io: Io) -> Item {
    let enough = limit.soft.is_none_or(|soft| soft >= MEMLOCK_BYTES_MIN);
    let found = format!("soft {}, hard {}", number_or_none(limit.soft), number_or_none(limit.hard));
    Item::new("locked memory", good_or(enough, short(io)), found, format!("soft at least {MEMLOCK_BYTES_MIN}")).costs(
        cost(io, "shards register memory for io_uring, and do not start without"),
        "LimitMEMLOCK=64M in the unit, or memlock in /etc/security/limits.d (tuning/limits.conf)",
    )
}

/// A kernel setting of `tuning/sysctl.conf`.
pub fn sysctl(wanted: &Wanted, host: &Host, memory_bytes: Option<u64>, tracked: Option<u64>, connections: u64) -> Item {
    let wanted = &wanted.for_connections(connections);
    let text = host.text(&wanted.path());
    let value = wanted.better(text.as_deref().unwrap_or_default());
    let remedy = format!("{} --connections {connections}, or sysctl -w {}='{value}'", apply(host), wanted.name);
    let (status, found) = match text {
        None if wanted.optional => (Status::Absent, "not there".to_owned()),
        None => (Status::Unknown, "not visible here".to_owned()),
        Some(found) => {
            let status = match wanted.holds(&found) {
                _ if memory_bytes.is_some_and(|bytes| bytes < wanted.memory_bytes) => Status::Absent,
                _ if connections < wanted.connections_min => Status::Absent,
                // Connection tracking that tracks nothing needs no table.
                _ if tracked == Some(0) && wanted.name.contains(".nf_conntrack_") => Status::Absent,
                Some(holds) => good_or(holds, Status::Advice),
                None => Status::Unknown,
            };
            (status, found.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    };
    let mut wish = wanted.describe();
    if wanted.memory_bytes > 0 {
        wish.push_str(&format!(" (from {} GiB of memory on)", wanted.memory_bytes >> 30));
    }
    if wanted.connections_min > 0 {
        wish.push_str(&format!(" (from {} connections on)", wanted.connections_min));
    }
    Item::new(&wanted.name, status, found, wish).costs(wanted.without.trim_end_matches('.'), remedy)
}

/// Shards against the processors that they may use.
pub fn cores(subject: &Subject) -> Item {
    let (shards, allowed) = (subject.cores.len() as u64 * subject.processes, subject.allowed.len() as u64);
    let found = if subject.processes == 1 {
        format!("{shards} shards, {allowed} processors allowed")
    } else {
        format!("{} processes of {} shards, {allowed} processors allowed", subject.processes, subject.cores.len())
    };
    Item::new("cores", good_or(shards <= allowed, Status::Advice), found, "a processor for each shard").costs(
        "shards that share a processor wait for one another: every delay doubles, also p99",
        "give each process cores of its own by --cores, fewer processes, or fewer shards",
    )
}

/// Whether two shards are two threads of one physical core.
pub fn siblings(subject: &Subject, host: &Host) -> Item {
    let mut shared = Vec::new();
    let mut known = false;
    for &core in &subject.cores {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(list) = host.text(&path) else { continue };
        known = true;
        let others = core_list(&list).into_iter().filter(|&other| other > core && subject.cores.contains(&other));
        shared.extend(others.map(|other| format!("{core} and {other}")));
    }
    let (status, found) = match (known, shared.is_empty()) {
        (false, _) => (Status::Unknown, "not visible here".to_owned()),
        (_, true) => (Status::Ok, "none".to_owned()),
        (_, false) => (Status::Advice, shared.join(", ")),
    };
    Item::new("hyperthreads", status, found, "no two shards on one physical core").costs(
        "two shards on one core get some 60 % each of what a core of its own gives",
        "list one thread of each core in --cores and leave the others to the kernel's interrupts, or accept it for throughput",
    )
}

/// Whether shards are on one NUMA node.
pub fn numa(subject: &Subject, host: &Host) -> Item {
    let mut nodes = Vec::new();
    for node in host.list("sys/devices/system/node") {
        if !node.strip_prefix("node").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        let list = host.text(&format!("sys/devices/system/node/{node}/cpulist")).unwrap_or_default();
        if core_list(&list).iter().any(|core| subject.cores.contains(core)) {
            nodes.push(node);
        }
    }
    let status = if nodes.is_empty() { Status::Absent } else { good_or(nodes.len() == 1, Status::Advice) };
    Item::new("NUMA nodes", status, nodes.join(" "), "one for all shards of a process").costs(
        "messages between shards, and memory of the first shard to touch it, cross the interconnect",
        "run one process a node (fanfare-frontend@ with --cores of that node), see tuning/README.md",
    )
}

/// Whether the clock is kept right.
pub fn clock(state: &io::Result<ClockState>) -> Item {
    let wanted = format!("synchronised, off by at most {} ms", CHECK_CLOCK_ERROR_MAX_US / 1000);
    let (status, found) = match state {
        Ok(ClockState { synchronised: true, error_max_us }) => (
            good_or(*error_max_us <= CHECK_CLOCK_ERROR_MAX_US, Status::Advice),
            format!("synchronised, off by at most {} ms", error_max_us / 1000),
        ),
        Ok(_) => (Status::Advice, "not synchronised".to_owned()),
        Err(error) => (Status::Unknown, error.to_string()),
    };
    Item::new("clock", status, found, wanted).costs(
        "tokens end early or late, latencies between boxes come out wrong, and resuming in another data center goes by time",
        "run chrony or systemd-timesyncd",
    )
}

/// What the kernel reads the time from.
pub fn clock_source(host: &Host) -> Item {
    const PATH: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = host.text(PATH);
    let status = match source.as_deref() {
        None => Status::Unknown,
        Some("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies") => Status::Advice,
        Some(_) => Status::Ok,
    };
    Item::new("clock source", status, source.unwrap_or_default(), "one that is read without a system call, such as tsc")
        .costs(
            "a shard reads the clock once a turn, which takes a microsecond instead of 20 ns",
            "see what dmesg says of tsc; tsc=reliable on the kernel's command line if the vendor vouches for it",
        )
}

/// Whether cores are kept from saving power.
pub fn governor(subject: &Subject, host: &Host) -> Item {
    let read = |core: &usize| host.text(&format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"));
    let mut found: Vec<String> = subject.cores.iter().filter_map(read).collect();
    found.sort_unstable();
    found.dedup();
    let status = if found.is_empty() { Status::Absent } else { good_or(found == ["performance"], Status::Advice) };
    Item::new("CPU governor", status, found.join(" "), "performance").costs(
        "a core that slowed down takes milliseconds to be fast again: seen in the first events after silence",
        "cpupower frequency-set -g performance",
    )
}

/// Whether small tables become huge pages.
pub fn huge_pages(host: &Host) -> Item {
    let text = host.text("sys/kernel/mm/transparent_hugepage/enabled");
    let chosen = text.as_deref().and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(chosen, _)| chosen);
    let status = chosen.map_or(Status::Absent, |chosen| good_or(chosen != "always", Status::Advice));
    Item::new("transparent huge pages", status, chosen.unwrap_or_default(), "madvise or never").costs(
        "2 MiB at a time for tables that grow by kilobytes: more memory than measured, and pauses while pages are made",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and transparent_hugepage=madvise on the kernel's command line",
    )
}

/// Whether connection tracking is loaded, and how full its table is.
pub fn conntrack(host: &Host, tracked: Option<u64>) -> Item {
    let (status, found) = match (tracked, conntrack_max(host)) {
        (Some(0), Some(max)) => (Status::Ok, format!("loaded, tracks nothing here, table of {max}")),
        (Some(count), Some(max)) => (Status::Advice, format!("{count} entries in a table of {max}")),
        _ => (Status::Ok, "not loaded".to_owned()),
    };
    Item::new("connection tracking", status, found, "not for the public port").costs(
        "300 bytes and a look-up a packet for each connection, and new ones are dropped once its table is full",
        "a notrack rule for the public port, see tuning/README.md; else a larger table (net.netfilter.nf_conntrack_max)",
    )
}

/// The size of the table of connection tracking, where it is loaded.
pub fn conntrack_max(host: &Host) -> Option<u64> {
    host.number("proc/sys/net/netfilter/nf_conntrack_max")
}

/// Whether the kernel may give the listeners' ports to others.
pub fn ports(subject: &Subject, host: &Host) -> Item {
    let range = host.numbers("proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let [low, high] = range[..] else {
        return Item::new(
            "listeners' ports",
            Status::Unknown,
            "not visible here",
            "outside of the range for outgoing ones",
        );
    };
    let reserved = host.text("proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let reserved: Vec<usize> = core_list(&reserved);
    let privileged = host.number("proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
    let listeners = [subject.listen.port(), subject.internal.port()];
    let taken: Vec<String> = listeners
        .iter()
        .filter(|&&port| port != 0 && (low..=high).contains(&port.into()) && !reserved.contains(&port.into()))
        .map(u16::to_string)
        .collect();
    let others = ports_at_risk(host, &subject.services, low, high, &reserved);
    let others: Vec<String> = others.iter().map(u16::to_string).filter(|port| !taken.contains(port)).collect();
    let low_port = listeners.iter().find(|&&port| port != 0 && u64::from(port) < privileged);
    let beside = if others.is_empty() { String::new() } else { format!(", others listen on {}", others.join(" ")) };
    let found = format!("{} and {}, outgoing {low} to {high}{beside}", listeners[0], listeners[1]);
    let item = Item::new(
        "listeners' ports",
        good_or(taken.is_empty() && others.is_empty() && low_port.is_none(), Status::Advice),
        found,
        "outside of the range for outgoing ones, not privileged",
    );
    match low_port {
        Some(port) => item.costs(
            "the user that runs Fanfare may not listen there without a capability",
            format!(
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port other than {port} from {privileged} up"
            ),
        ),
        None => item.costs(
            "an outgoing connection may hold the port when its program starts, which then does not (Fanfare exits 2)",
            {
                let kept = host.text("proc/sys/net/ipv4/ip_local_reserved_ports").filter(|kept| !kept.is_empty());
                let ports: Vec<String> = kept.into_iter().chain(taken).chain(others).collect();
                format!("{}, or sysctl -w net.ipv4.ip_local_reserved_ports={}", apply(host), ports.join(","))
            },
        ),
    }
}

/// Whether a network card spreads packets over as many queues as there are shards. One item a card.
pub fn cards(subject: &Subject, host: &Host) -> Vec<Item> {
    let shards = subject.cores.len() * subject.processes as usize;
    let card = |name: &String| {
        let up = host.text(&format!("sys/class/net/{name}/operstate")).is_some_and(|state| state != "down");
        (up && host.has(&format!("sys/class/net/{name}/device"))).then(|| {
            let queues = host.list(&format!("sys/class/net/{name}/queues"));
            let receive: Vec<&String> = queues.iter().filter(|queue| queue.starts_with("rx-")).collect();
            let steered = receive.iter().any(|queue| {
                let mask = host.text(&format!("sys/class/net/{name}/queues/{queue}/rps_cpus")).unwrap_or_default();
                mask.bytes().any(|byte| !matches!(byte, b'0' | b','))
            });
            let good = receive.len() >= shards || steered;
            let found = format!("{} receive queues{}", receive.len(), if steered { ", RPS" } else { "" });
            Item::new(&format!("card {name}"), good_or(good, Status::Advice), found, format!("{shards}, or RPS")).costs(
                "the cores that take its interrupts are full while other shards wait for packets",
                format!("tuning/nic {name} shows what to set, tuning/nic --apply {name} sets it"),
            )
        })
    };
    host.list("sys/class/net").iter().filter_map(card).collect()
}

/// Numbers of a list such as `0-2,7`.
fn core_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some(low.trim().parse::<usize>().ok()?..=high.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}
