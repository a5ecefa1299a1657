//! What is around the role on its box: disk, swap, the group's processor time, other programs' ports, a proxy in front.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Subject;
use super::host::Host;
use super::items::{Item, Status, good_or};
use crate::limits::{CHECK_DISK_FREE_MIN, CHECK_FLUSH_MAX, CHECK_SWAPPED_MAX};
use crate::settings::Database;

/// The disk of the embedded database.
#[derive(Debug)]
pub struct Disk {
    /// The database's folder.
    pub folder: PathBuf,
    /// Bytes that this user may still write.
    pub free: u64,
    /// How long it takes until what was written is on the disk.
    pub flush: io::Result<Duration>,
}

impl Disk {
    /// Looks at the disk of this database: writes a small file there and removes it. None where there is no such disk.
    pub fn of(database: &Database) -> Option<Disk> {
        let Database::Sqlite(path) = database else { return None };
        let folder = std::path::absolute(path).ok()?.parent()?.to_owned();
        let space = rustix::fs::statvfs(&folder).ok()?;
        let flush = flush(&folder);
        Some(Disk { folder, free: space.f_bavail * space.f_frsize, flush })
    }
}

/// The middle one of nine times to append 4 KiB to a file and flush it, as a commit does.
fn flush(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".fanfare-check-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().append(true).create_new(true).open(&path)?;
    let mut once = || {
        let started = Instant::now();
        file.write_all(&[0; 4096]).and_then(|()| file.sync_data()).map(|()| started.elapsed())
    };
    let times: io::Result<Vec<Duration>> = (0..9).map(|_| once()).collect();
    std::fs::remove_file(&path)?;
    let mut times = times?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Room for the database, and how fast it is. None for a role without one.
pub fn disk(disk: Option<&Disk>) -> Vec<Item> {
    let Some(disk) = disk else { return Vec::new() };
    let free = Item::new(
        "free disk",
        good_or(disk.free >= CHECK_DISK_FREE_MIN, Status::Advice),
        format!("{} MiB at {}", disk.free >> 20, disk.folder.display()),
        format!("at least {} MiB", CHECK_DISK_FREE_MIN >> 20),
    )
    .costs(
        "a like takes 40 to 150 bytes, a comment 60 and its text; once the disk is full nothing is stored, and 503 says so",
        "make room, or give the database another disk (db = \"sqlite:PATH\")",
    );
    let (status, found) = match &disk.flush {
        Ok(time) => {
            (good_or(*time <= CHECK_FLUSH_MAX, Status::Advice), format!("{:.1} ms", time.as_secs_f64() * 1000.0))
        }
        Err(error) => (Status::Unknown, error.to_string()),
    };
    let flush = Item::new("flush to disk", status, found, format!("at most {} ms", CHECK_FLUSH_MAX.as_millis())).costs(
        "each like is answered after one or two of them; those that come meanwhile share the next",
        "a disk that keeps its cache through a power cut (an SSD for servers), not a network drive",
    );
    vec![free, flush]
}

/// Whether memory was put on disk.
pub fn swap(host: &Host) -> Item {
    let (total, free) = (host.memory("SwapTotal"), host.memory("SwapFree"));
    let (status, found) = match (total, free) {
        (Some(0), _) => (Status::Ok, "none".to_owned()),
        (Some(total), Some(free)) => {
            let used = total.saturating_sub(free);
            (
                good_or(used <= CHECK_SWAPPED_MAX, Status::Advice),
                format!("{} of {} MiB in use", used >> 20, total >> 20),
            )
        }
        _ => (Status::Unknown, "not visible here".to_owned()),
    };
    Item::new("swap", status, found, format!("none, or at most {} MiB in use", CHECK_SWAPPED_MAX >> 20)).costs(
        "a shard whose memory is on disk stops for each page of it, with all of its viewers",
        "more memory or fewer programs; MemorySwapMax=0 in the unit keeps Fanfare out of it; swapoff -a && swapon -a brings back what is there",
    )
}

/// Whether the control groups of this process let its shards run all the time.
pub fn quota(subject: &Subject, host: &Host) -> Item {
    let shards = subject.cores.len() as u64;
    let percent = host.cgroup_processor_percent();
    let found = percent.map_or("none".to_owned(), |percent| format!("{percent} % of one processor"));
    let status = good_or(percent.is_none_or(|percent| percent >= 100 * shards), Status::Advice);
    Item::new("processor quota", status, found, format!("none, or {} % for {shards} shards", 100 * shards)).costs(
        "the kernel stops all shards for the rest of each 100 ms once the quota is used up: seen in p99",
        "CPUQuota= in the unit, or the container's CPU limit, for as many processors as shards; or fewer shards (--cores)",
    )
}

/// Ports below which nobody listens by chance: where the kernel's own range for outgoing connections begins.
const CHOSEN_BELOW: u64 = 32_768;

/// Ports on which others on this box listen, or will (`services`), and which the kernel may give to an outgoing connection.
pub fn ports_at_risk(host: &Host, services: &[u16], low: u64, high: u64, reserved: &[usize]) -> Vec<u16> {
    let tables = ["proc/net/tcp", "proc/net/tcp6"].into_iter().filter_map(|table| host.text(table));
    let mut ports: Vec<u16> = services.to_vec();
    for table in tables {
        ports.extend(table.lines().filter_map(listening).filter(|&port| u64::from(port) < CHOSEN_BELOW));
    }
    ports.retain(|&port| (low..=high).contains(&port.into()) && !reserved.contains(&port.into()));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The port of a line of `/proc/net/tcp`, if somebody listens there.
fn listening(line: &str) -> Option<u16> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let (_, port) = local.rsplit_once(':').filter(|_| state == LISTEN)?;
    u16::from_str_radix(port, 16).ok()
}

/// A proxy that runs on this box.
#[derive(Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name.
    pub name: String,
    /// Its processes.
    pub processes: u64,
    /// Files that they may open, in all.
    pub files: u64,
}

/// The proxies of this box, where `--listen` is for one of them.
pub fn proxies(subject: &Subject, host: &Host) -> Vec<Proxy> {
    const NAMES: [&str; 9] =
        ["nginx", "haproxy", "caddy", "envoy", "varnishd", "apache2", "httpd", "traefik", "lighttpd"];
    if !subject.listen.ip().is_loopback() {
        return Vec::new();
    }
    let mut found: Vec<Proxy> = Vec::new();
    for process in host.list("proc").iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let Some(name) = host.text(&format!("proc/{process}/comm")).filter(|name| NAMES.contains(&name.as_str()))
        else {
            continue;
        };
        let limits = host.text(&format!("proc/{process}/limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let files = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(u64::MAX);
        match found.iter_mut().find(|proxy| proxy.name == name) {
            Some(proxy) => (proxy.processes, proxy.files) = (proxy.processes + 1, proxy.files.saturating_add(files)),
            None => found.push(Proxy { name, processes: 1, files }),
        }
    }
    found
}

/// Whether a proxy may open enough files: two for each viewer. One item a proxy.
pub fn proxy_files(proxies: &[Proxy], connections: u64) -> Vec<Item> {
    let item = |proxy: &Proxy| {
        let (name, wanted) = (format!("files of {}", proxy.name), connections.saturating_mul(2));
        let found = format!("{} in {} processes", proxy.files, proxy.processes);
        let item =
            Item::new(&name, good_or(proxy.files >= wanted, Status::Advice), found, format!("at least {wanted}"));
        item.costs(
            "if it stands in front of Fanfare, each viewer is two of its files; past them it answers 500 or 502 itself, which ends a browser's EventSource for good",
            format!(
                "LimitNOFILE={wanted} in a drop-in of its unit, and what it has of its own (nginx: worker_rlimit_nofile and worker_connections; HAProxy: maxconn), see tuning/proxy"
            ),
        )
    };
    proxies.iter().map(item).collect()
}
