//! What can be seen from outside of the server under load, when it runs on this machine: its processes' memory and
//! CPU time, and what the kernel holds for sockets.
use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;

use crate::client::fleet::sys::ticks_per_second;

/// The processes of a server, one or several that share its port.
#[derive(Debug, Clone, Default)]
pub struct Server {
    pub pids: Vec<u32>,
}

/// A server's and the kernel's use of memory and time at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory of all its processes, in bytes.
    pub rss_bytes: u64,
    /// CPU time in user and in kernel mode, in µs, to 10 ms.
    pub user_us: u64,
    pub system_us: u64,
    /// TCP buffers of the whole machine, in bytes.
    pub tcp_bytes: u64,
    /// Kernel objects (sockets, inodes, files) of the whole machine, in bytes.
    pub slab_bytes: u64,
}

impl Server {
    /// The given processes, or else those that listen on the target's port here.
    pub fn find(pids: &[u32], target: SocketAddr) -> Self {
        if !pids.is_empty() {
            return Self { pids: pids.to_vec() };
        }
        if !target.ip().is_loopback() {
            return Self::default();
        }
        let inodes = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listening_inodes(&table, target.port()))
            .collect();
        Self { pids: processes_with(&inodes) }
    }

    /// What it uses now; zeros for what cannot be read.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let tick_us = 1_000_000 / ticks_per_second();
        for pid in &self.pids {
            let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            usage.rss_bytes += field_kb(&read("status"), "VmRSS:") * 1024;
            if let Some((user, system)) = cpu_ticks(&read("stat")) {
                usage.user_us += user * tick_us;
                usage.system_us += system * tick_us;
            }
        }
        usage.tcp_bytes = tcp_pages(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default()) * 4096;
        usage.slab_bytes = field_kb(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:") * 1024;
        usage
    }
}

/// Inodes of the sockets that listen on a port, from /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let inode = fields.nth(5)?.parse().ok()?;
            let its_port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
            (its_port == port && state == LISTEN).then_some(inode)
        })
        .collect()
}

fn processes_with(inodes: &HashSet<u64>) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
                return false;
            };
            // A process may hold very many files; its listeners are among the first.
            files.flatten().take(4096).any(|file| {
                fs::read_link(file.path()).is_ok_and(|link| {
                    let name = link.to_string_lossy();
                    name.strip_prefix("socket:[")
                        .and_then(|rest| rest.strip_suffix(']')?.parse().ok())
                        .is_some_and(|inode: u64| inodes.contains(&inode))
                })
            })
        })
        .collect();
    pids.sort_unstable();
    pids
}

/// A `Name:  123 kB` line's number.
fn field_kb(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// utime and stime of a /proc/PID/stat line, whose second field may have spaces and parentheses in it.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Pages of TCP memory in /proc/net/sockstat.
fn tcp_pages(sockstat: &str) -> u64 {
    sockstat.lines().find_map(|line| line.strip_prefix("TCP:")?.split_once(" mem ")?.1.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 8080), [4711]);
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 40 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some((250, 40)));
        let sockstat = "sockets: used 3\nTCP: inuse 9 orphan 0 tw 4 alloc 20 mem 17\nUDP: inuse 0 mem 0\n";
        assert_eq!(tcp_pages(sockstat), 17);
        assert_eq!(field_kb("VmPeak:\t 5 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"), 1234);
    }

    #[test]
    fn finds_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::find(&[], listener.local_addr().unwrap());
        assert_eq!(server.pids, [std::process::id()]);
        assert!(server.usage().rss_bytes > 0);
    }
}
