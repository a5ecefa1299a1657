//! How many connections a box allows, and what limits them.

use serde::Serialize;

use super::Subject;
use super::host::{Host, Limit};
use super::items::{conntrack_max, files_reserved};
use super::surroundings::Proxy;
use crate::limits::{CONNECTION_MEMORY_BYTES, PROCESS_MEMORY_BYTES, PROXIED_CONNECTION_BYTES};

/// One thing that limits connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// Its name.
    pub item: String,
    /// So many connections, beyond what runs now.
    pub allows: u64,
    /// How that was reckoned.
    pub because: String,
}

/// What a box allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// So many connections. None of the bounds could be read if there is none.
    pub allowed: Option<u64>,
    /// What limits them.
    pub limited_by: Option<String>,
    /// All bounds, the tightest first.
    pub bounds: Vec<Bound>,
    /// So many are wanted.
    pub wanted: Option<u64>,
    /// Whether those fit.
    pub fits: Option<bool>,
}

/// What was read for it elsewhere.
pub struct Measured {
    /// Open files of a process.
    pub open_files: Limit,
    /// Entries of connection tracking, where it is loaded.
    pub tracked: Option<u64>,
    /// Bytes in a page of memory.
    pub page_bytes: u64,
}

/// Reckons it.
pub fn capacity(
    host: &Host,
    subject: &Subject,
    measured: &Measured,
    proxies: &[Proxy],
    wanted: Option<u64>,
) -> Capacity {
    let mut bounds: Vec<Bound> = [
        open_files(subject, measured.open_files),
        all_files(host, subject),
        watches(host),
        memory(host, subject, proxies),
        tcp_memory(host, measured.page_bytes),
        tracking(host, measured.tracked),
        ports(host, subject),
    ]
    .into_iter()
    .flatten()
    .collect();
    bounds.sort_by_key(|bound| bound.allows);
    let first = bounds.first();
    let allowed = first.map(|bound| bound.allows);
    let limited_by = first.map(|bound| bound.item.clone());
    let fits = wanted.map(|wanted| allowed.is_none_or(|allowed| wanted <= allowed));
    Capacity { allowed, limited_by, bounds, wanted, fits }
}

fn bound(item: &str, allows: u64, because: String) -> Option<Bound> {
    Some(Bound { item: item.to_owned(), allows, because })
}

fn open_files(subject: &Subject, limit: Limit) -> Option<Bound> {
    let hard = limit.hard?;
    let (reserve, processes) = (files_reserved(subject), subject.processes);
    let because = match processes {
        1 => format!("hard limit {hard}, less {reserve} for other files of the process"),
        _ => format!("hard limit {hard}, less {reserve} for other files, in each of {processes} processes"),
    };
    bound("open files", hard.saturating_sub(reserve) * processes, because)
}

fn all_files(host: &Host, subject: &Subject) -> Option<Bound> {
    let max = host.number("proc/sys/fs/file-max")?;
    let open = host.number("proc/sys/fs/file-nr")?;
    let reserve = files_reserved(subject) * subject.processes;
    let because = format!("fs.file-max {max}, less {open} open now and {reserve} for Fanfare's other files");
    bound("fs.file-max", max.saturating_sub(open).saturating_sub(reserve), because)
}

fn watches(host: &Host) -> Option<Bound> {
    let max = host.number("proc/sys/fs/epoll/max_user_watches")?;
    bound("fs.epoll.max_user_watches", max, "one entry a connection".to_owned())
}

fn memory(host: &Host, subject: &Subject, proxies: &[Proxy]) -> Option<Bound> {
    let available = host.memory("MemAvailable")?;
    let group = host.cgroup_memory_left();
    let left = group.map_or(available, |group| group.min(available));
    let by = if left < available { "left to its control group" } else { "available now" };
    let reserve = PROCESS_MEMORY_BYTES * subject.processes;
    let (each, proxied) = match proxies.first() {
        Some(proxy) => (
            CONNECTION_MEMORY_BYTES + PROXIED_CONNECTION_BYTES,
            format!(", {PROXIED_CONNECTION_BYTES} of them for {} with TLS", proxy.name),
        ),
        None => (CONNECTION_MEMORY_BYTES, String::new()),
    };
    let because = format!(
        "{} MiB {by}, less {} MiB for the process itself, {each} bytes each with the kernel's part{proxied}",
        left >> 20,
        reserve >> 20,
    );
    bound("memory", left.saturating_sub(reserve) / each, because)
}

fn tcp_memory(host: &Host, page_bytes: u64) -> Option<Bound> {
    let pages = *host.numbers("proc/sys/net/ipv4/tcp_mem")?.get(2)?;
    let because =
        format!("net.ipv4.tcp_mem allows {pages} pages of {page_bytes} bytes, and a broadcast takes one each");
    bound("net.ipv4.tcp_mem", pages, because)
}

fn tracking(host: &Host, tracked: Option<u64>) -> Option<Bound> {
    let max = conntrack_max(host)?;
    let entries = tracked.filter(|&entries| entries > 0)?;
    let because = format!("table of {max}, less {entries} entries now");
    bound("connection tracking", max.saturating_sub(entries), because)
}

/// Behind a proxy on this box: each of its connections has one of the range's ports, for one pair of addresses.
fn ports(host: &Host, subject: &Subject) -> Option<Bound> {
    if !subject.listen.ip().is_loopback() {
        return None;
    }
    let range = host.numbers("proc/sys/net/ipv4/ip_local_port_range")?;
    let [low, high] = range[..] else { return None };
    let because = format!(
        "--listen {} is reached from this box only: ports {low} to {high} for each address that clients connect from",
        subject.listen.ip()
    );
    bound("net.ipv4.ip_local_port_range", (high + 1).saturating_sub(low), because)
}
