//! What the kernel says of this process, and of the box. Each reading takes some microseconds and waits for nothing.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

/// Processor time that all threads of this process had, in seconds.
pub fn cpu_seconds() -> f64 {
    duration(clock_gettime(ClockId::ProcessCPUTime)).as_secs_f64()
}

/// Processor time that the calling thread had.
pub fn own_time() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// When this process started, in seconds since 1970, by the clock as it was at the first call; `None` where `/proc` is not
/// there.
pub fn start_seconds() -> Option<f64> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    *START.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let started = started_ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64;
        let age = duration(clock_gettime(ClockId::Boottime)).as_secs_f64() - started;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        Some(now - age)
    })
}

/// Clock ticks from the box's start to the process's: the 22nd field of proc_pid_stat(5).
fn started_ticks(stat: &str) -> Option<u64> {
    field(stat, 22)?.parse().ok()
}

/// A field of proc_pid_stat(5) behind the name, which is the second and may hold anything.
fn field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)
}

/// What a thread had of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadTime {
    /// Time that it ran.
    pub cpu: Duration,
    /// It runs, or would if a processor were free. Else it waits for something, or was stopped.
    pub runs: bool,
}

/// What a thread of this process had; `None` where `/proc` is not there, or the thread ended.
pub fn thread_time(thread: Pid) -> Option<ThreadTime> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    let ticks = |number| field(&stat, number)?.parse::<u64>().ok();
    // In its own code, and in the kernel's on its behalf.
    let seconds = (ticks(14)? + ticks(15)?) as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(ThreadTime { cpu: Duration::from_secs_f64(seconds), runs: field(&stat, 3)? == "R" })
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

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
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| group_limit(&text, |path| fs::read_to_string(path).ok()));
    let total = total.unwrap_or(u64::MAX);
    group.map_or(total, |group| group.min(total))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit from this process's group up, of either version of control groups: with version 1 memory has a tree of its
/// own.
fn group_limit(cgroup: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let lines = cgroup.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, "memory.max")),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let limits = lines.flat_map(|(tree, path, file)| {
        let groups = std::iter::successors(Some(path.trim_end_matches('/')), |path| Some(&path[..path.rfind('/')?]));
        // In a container the path may be one of the box's, which is not there; the last group is the container's own then.
        groups.map(move |group| format!("{tree}{group}/{file}"))
    });
    limits.filter_map(|path| read(&path)?.trim().parse::<u64>().ok()).min()
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
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(started_ticks(line), Some(4242));
        let (start, now) =
            (start_seconds().expect("/proc is there"), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!(start < now.as_secs_f64() + 1.0 && start > now.as_secs_f64() - 86_400.0, "{start}");
        assert!(cpu_seconds() > 0.0);
        assert!(thread_time(rustix::thread::gettid()).is_some_and(|time| time.runs));
        assert_eq!(thread_time(Pid::INIT), None, "that is another process's");
    }

    #[test]
    fn groups_of_both_versions_are_read_up_to_the_first() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "3000\n"),
            ("/sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes", "2000\n"),
            ("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "1000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        assert_eq!(group_limit("0::/a/b\n", read), Some(3000));
        assert_eq!(group_limit("0::/\n", read), None);
        assert_eq!(group_limit("5:cpu,cpuacct:/a\n4:memory:/docker/c\n0::/\n", read), Some(1000));
        assert_eq!(group_limit("4:hugetlb,memory:/not/here\n", read), Some(9_223_372_036_854_771_712));
        assert_eq!(group_limit("4:memory:/docker/c\n0::/a/b\n", read), Some(1000));
        assert_eq!(group_limit("no group", read), None);
    }
}
