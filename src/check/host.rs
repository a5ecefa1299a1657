//! What a box says of itself: files of `/proc` and `/sys`, and three questions to the kernel.

use std::io;
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit};

/// A box, seen through its file system.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
}

/// A soft and a hard limit; `None` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What holds.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// What the kernel knows of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Whether something keeps it right.
    pub synchronised: bool,
    /// How wrong it may be at most, in microseconds, as what keeps it right says.
    pub error_max_us: u64,
}

impl Host {
    /// This box.
    pub fn this() -> Host {
        Host::at("/")
    }

    /// A box whose files are below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into() }
    }

    /// A file's text without the white space around it; `None` when it cannot be read. The path is relative to the root.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The numbers of a file, up to the first field that is none.
    pub fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        Some(self.text(path)?.split_whitespace().map_while(|field| field.parse().ok()).collect())
    }

    /// The first number of a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.numbers(path)?.first().copied()
    }

    /// Names in a folder, sorted; none when it cannot be read.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// A line of `/proc/meminfo`, such as `MemAvailable`, in bytes.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Processor time that the control groups of this process allow it, in percent of one processor; `None` when none sets a
    /// limit. Knows both hierarchies.
    pub fn cgroup_processor_percent(&self) -> Option<u64> {
        let percent =
            |quota: Option<u64>, period: Option<u64>| Some(quota? * 100 / period.filter(|&period| period > 0)?);
        let groups = self.text("proc/self/cgroup")?;
        let of_line = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let older = match controllers {
                "" => false,
                names if names.split(',').any(|name| name == "cpu") => true,
                _ => return None,
            };
            let path = path.trim_end_matches('/');
            // A limit of a group above holds as well.
            let groups = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
            let of_group = |group: &str| match older {
                false => {
                    let limits = self.numbers(&format!("sys/fs/cgroup{group}/cpu.max"))?;
                    percent(limits.first().copied(), limits.get(1).copied())
                }
                true => {
                    let read = |name: &str| self.number(&format!("sys/fs/cgroup/cpu{group}/cpu.cfs_{name}_us"));
                    percent(read("quota"), read("period"))
                }
            };
            std::iter::once(path).chain(groups).filter_map(of_group).min()
        };
        groups.lines().filter_map(of_line).min()
    }

    /// What the control groups of this process leave it of memory, in bytes; `None` when none sets a limit. Knows
    /// both hierarchies.
    pub fn cgroup_memory_left(&self) -> Option<u64> {
        let groups = self.text("proc/self/cgroup")?;
        let mut left: Option<u64> = None;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let (base, limit, used) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max", "memory.current"),
                names if names.split(',').any(|name| name == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
                }
                _ => continue,
            };
            // A limit of a group above holds as well. In a container the path may not be visible; its own group is the root then.
            let mut path = path.trim_end_matches('/');
            loop {
                let read = |name: &str| self.number(&format!("{base}{path}/{name}"));
                if let (Some(limit), Some(used)) = (read(limit), read(used)) {
                    let here = limit.saturating_sub(used);
                    // Without a limit the older hierarchy shows the largest page-aligned number.
                    if limit < 1 << 60 {
                        left = Some(left.map_or(here, |left| left.min(here)));
                    }
                }
                match path.rfind('/') {
                    Some(at) => path = &path[..at],
                    None => break,
                }
            }
        }
        left
    }
}

/// Open files of this process.
pub fn open_files() -> Limit {
    limit(Resource::Nofile)
}

/// Memory that this process may lock, in bytes.
pub fn locked_memory() -> Limit {
    limit(Resource::Memlock)
}

fn limit(resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { soft: limit.current, hard: limit.maximum }
}

/// Asks the kernel for the state of its clock, and changes nothing.
///
/// # Errors
/// Those of `adjtimex(2)`; some sandboxes forbid even asking.
pub fn clock() -> io::Result<ClockState> {
    // SAFETY: `timex` is plain numbers, for which all zeroes is a value; `modes` of 0 asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` that nobody else uses.
    let state = unsafe { libc::adjtimex(&mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let synchronised = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    Ok(ClockState { synchronised, error_max_us: timex.maxerror.try_into().unwrap_or(0) })
}

/// Entries of connection tracking while one connection of this process is open on loopback; `None` where it is not
/// loaded. 0 means that it is loaded and tracks nothing here.
pub fn tracked_connections(host: &Host) -> Option<u64> {
    const COUNT: &str = "proc/sys/net/netfilter/nf_conntrack_count";
    let before = host.number(COUNT)?;
    let pair = std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| Ok((std::net::TcpStream::connect(listener.local_addr()?)?, listener)));
    let during = host.number(COUNT).unwrap_or(before);
    drop(pair);
    Some(before.max(during))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(folder.path());
        (folder, host)
    }

    #[test]
    fn files_become_numbers() {
        let (_folder, host) = host(&[
            ("proc/meminfo", "MemTotal:       24689060 kB\nMemAvailable:   23000000 kB\nHugePages_Total: 0\n"),
            ("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n"),
        ]);
        assert_eq!(host.memory("MemAvailable"), Some(23_000_000 * 1024));
        assert_eq!(host.memory("Mem"), None);
        assert_eq!(host.numbers("proc/sys/net/ipv4/tcp_mem"), Some(vec![1, 2, 3]));
        assert_eq!(host.number("proc/none"), None);
    }

    #[test]
    fn the_tightest_memory_limit_of_all_groups_above_counts() {
        let (_folder, unified) = host(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "400\n"),
        ]);
        assert_eq!(unified.cgroup_memory_left(), Some(600));
        let (_folder, older) = host(&[
            ("proc/self/cgroup", "9:name=systemd:/\n4:memory,hugetlb:/a\n0::/\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "900\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n"),
        ]);
        assert_eq!(older.cgroup_memory_left(), Some(0));
        let (_folder, free) = host(&[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(free.cgroup_memory_left(), None);
    }

    #[test]
    fn the_clock_answers() {
        // What it says is compared with another program's answer by the integration test.
        assert!(clock().is_ok());
    }
}
