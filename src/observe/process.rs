//! What the kernel says of this process, and of the box. Each reading takes some microseconds and waits for nothing.

use std::fs;

/// Resident memory in bytes; 0 where `/proc` is not there.
pub fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|text| second(&text));
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn second(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Open files; `None` on kernels before 6.2, where they would have to be counted one by one.
pub fn open_files() -> Option<u64> {
    fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|count| *count > 0)
}

/// How many there may be; `None` for any number.
pub fn open_files_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The memory that this process may use, in bytes: the box's, or what its control group allows if that is less.
pub fn memory_available() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text));
    let total = total.unwrap_or(u64::MAX);
    group.map_or(total, |group| group.min(total))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest `memory.max` from this process's group up (cgroup v2).
fn group_limit(cgroup: &str) -> Option<u64> {
    let mut path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/');
    let mut least = None;
    loop {
        let limit = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok();
        if let Some(limit) = limit.and_then(|text| text.trim().parse::<u64>().ok()) {
            least = Some(least.map_or(limit, |least: u64| least.min(limit)));
        }
        match path.rfind('/') {
            Some(parent) => path = &path[..parent],
            None => return least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        assert!(resident() > 1 << 20 && resident() < memory_available());
        assert!(open_files().is_none_or(|count| count > 2));
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       24676556 kB\n"), Some(24_676_556 * 1024));
        assert_eq!(second("100 23 4"), Some(23));
    }
}
