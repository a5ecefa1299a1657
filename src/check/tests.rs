//! A box made of files, changed one thing at a time.

use std::path::Path;

use super::host::{ClockState, Limit};
use super::items::Status;
use super::report::Report;
use super::*;
use crate::limits::{CONNECTION_MEMORY_BYTES, FILES_PER_PROCESS, FILES_PER_SHARD, PROCESS_MEMORY_BYTES};

const GIB: u64 = 1 << 30;

/// A box on which nothing is wanting.
struct Fake {
    folder: tempfile::TempDir,
    subject: Subject,
    found: Found,
}

impl Fake {
    fn new() -> Fake {
        let limit = |number| Limit { soft: Some(number), hard: Some(number) };
        let fake = Fake {
            folder: tempfile::tempdir().unwrap(),
            subject: Subject {
                role: Role::Frontend,
                cores: vec![0, 2],
                allowed: vec![0, 1, 2, 3],
                processes: 1,
                listen: "0.0.0.0:8080".parse().unwrap(),
                internal: "127.0.0.1:8081".parse().unwrap(),
            },
            found: Found {
                executor: Ok(()),
                open_files: limit(2_097_152),
                locked_memory: limit(64 << 20),
                clock: Ok(ClockState { synchronised: true, error_max_us: 20_000 }),
                tracked: None,
                page_bytes: 4096,
            },
        };
        for wanted in wanted::all() {
            fake.put(&wanted.path(), &wanted.value().replace(' ', "\t"));
        }
        fake.put("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
        fake.put("proc/sys/fs/file-nr", "1000\t0\t2500000\n");
        fake.put("proc/meminfo", &format!("MemTotal: {0} kB\nMemAvailable: {0} kB\n", 64 * GIB / 1024));
        fake.put("proc/self/cgroup", "0::/\n");
        fake.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        fake.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        fake.put("sys/devices/system/node/node0/cpulist", "0-3\n");
        for core in 0..4 {
            let folder = format!("sys/devices/system/cpu/cpu{core}");
            fake.put(&format!("{folder}/topology/thread_siblings_list"), if core < 2 { "0-1\n" } else { "2,3\n" });
            fake.put(&format!("{folder}/cpufreq/scaling_governor"), "performance\n");
        }
        fake
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.folder.path().join(path);
        if Path::is_dir(&path) { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn report(&self) -> Report {
        evaluate(&Host::at(self.folder.path()), &self.subject, &self.found, None)
    }

    /// Names of the items that are not as wanted.
    fn wanting(&self) -> Vec<(String, Status)> {
        let bad = |item: items::Item| (item.status != Status::Ok).then_some((item.item, item.status));
        // Connection tracking is not there, and its settings are.
        self.report().items.into_iter().filter_map(bad).collect()
    }

    #[track_caller]
    fn wants(&self, item: &str, status: Status) {
        assert_eq!(self.wanting(), [(item.to_owned(), status)]);
        assert_eq!(self.report().passes(), status != Status::Blocked);
    }
}

#[test]
fn a_good_box_has_nothing_wanting() {
    let report = Fake::new().report();
    assert_eq!(Fake::new().wanting(), []);
    assert_eq!((report.verdict, report.passes()), (Status::Ok, true));
    assert!(
        report.items.iter().all(|item| !item.cost.is_empty() && !item.remedy.is_empty() && !item.wanted.is_empty())
    );
}

#[test]
fn each_kernel_setting_is_looked_at() {
    for wanted in wanted::all() {
        let fake = Fake::new();
        let worse = |&(rule, value): &(wanted::Rule, u64)| match rule {
            wanted::Rule::AtLeast => value - 1,
            wanted::Rule::AtMost | wanted::Rule::Exactly => value + 1,
        };
        let fields: Vec<String> = wanted.fields.iter().map(|field| worse(field).to_string()).collect();
        fake.put(&wanted.path(), &fields.join(" "));
        fake.wants(&wanted.name, Status::Advice);
        fake.put(&wanted.path(), "nonsense");
        // The range is what the listeners' ports are compared with, too.
        let first = &fake.wanting().into_iter().find(|(name, _)| *name == wanted.name).unwrap();
        assert_eq!(first.1, Status::Unknown);
        fake.remove(&wanted.path());
        let (_, status) = fake.wanting().into_iter().find(|(name, _)| *name == wanted.name).unwrap();
        assert_eq!(status, if wanted.optional { Status::Absent } else { Status::Unknown }, "{}", wanted.name);
    }
}

#[test]
fn each_other_thing_is_looked_at() {
    type Change = fn(&mut Fake);
    let changes: [(&str, Status, Change); 16] = [
        ("kernel", Status::Blocked, |fake| fake.put("proc/sys/kernel/osrelease", "5.10.0-8-amd64")),
        ("kernel", Status::Blocked, |fake| fake.put("proc/sys/kernel/osrelease", "4.19")),
        ("io_uring", Status::Blocked, |fake| fake.found.executor = Err(io::ErrorKind::PermissionDenied.into())),
        ("locked memory", Status::Blocked, |fake| fake.found.locked_memory.soft = Some(65_536)),
        ("open files", Status::Advice, |fake| fake.found.open_files.hard = Some(2_097_151)),
        ("cores", Status::Advice, |fake| fake.subject.processes = 3),
        ("hyperthreads", Status::Advice, |fake| fake.subject.cores = vec![0, 1]),
        ("NUMA nodes", Status::Advice, |fake| {
            fake.put("sys/devices/system/node/node0/cpulist", "0-1");
            fake.put("sys/devices/system/node/node1/cpulist", "2-3");
        }),
        ("CPU governor", Status::Advice, |fake| {
            fake.put("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave")
        }),
        ("transparent huge pages", Status::Advice, |fake| {
            fake.put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
        }),
        ("clock", Status::Advice, |fake| {
            fake.found.clock = Ok(ClockState { synchronised: false, error_max_us: 0 });
        }),
        ("clock", Status::Advice, |fake| {
            fake.found.clock = Ok(ClockState { synchronised: true, error_max_us: 1_000_001 });
        }),
        ("clock", Status::Unknown, |fake| fake.found.clock = Err(io::ErrorKind::PermissionDenied.into())),
        ("connection tracking", Status::Advice, |fake| fake.found.tracked = Some(7)),
        ("listeners' ports", Status::Advice, |fake| fake.subject.internal.set_port(20_000)),
        ("card eth0", Status::Advice, |fake| {
            fake.put("sys/class/net/eth0/operstate", "up");
            fake.put("sys/class/net/eth0/device/vendor", "");
            fake.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000");
        }),
    ];
    for (item, status, change) in changes {
        let mut fake = Fake::new();
        change(&mut fake);
        fake.wants(item, status);
    }
}

#[test]
fn what_is_steered_or_reserved_is_fine() {
    let mut fake = Fake::new();
    fake.subject.internal.set_port(20_000);
    fake.put("proc/sys/net/ipv4/ip_local_reserved_ports", "19999-20001");
    fake.put("sys/class/net/eth0/operstate", "up");
    fake.put("sys/class/net/eth0/device/vendor", "");
    fake.put("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000005");
    // A bridge is no card.
    fake.put("sys/class/net/br0/operstate", "up");
    assert_eq!(fake.wanting(), []);
    let mut fake = Fake::new();
    fake.found.tracked = Some(0);
    let absent = fake.wanting();
    assert!(
        absent.len() == 3
            && absent.iter().all(|(name, status)| name.contains("nf_conntrack") && *status == Status::Absent)
    );
}

#[test]
fn the_tightest_bound_limits() {
    type Change = fn(&mut Fake);
    let reserve = FILES_PER_PROCESS + 2 * FILES_PER_SHARD;
    let memory = |gib: u64| (gib * GIB - PROCESS_MEMORY_BYTES) / CONNECTION_MEMORY_BYTES;
    let changes: [(&str, u64, Change); 8] = [
        ("open files", 1000 - reserve, |fake| fake.found.open_files.hard = Some(1000)),
        ("open files", 0, |fake| fake.found.open_files.hard = Some(10)),
        ("fs.file-max", 9000 - reserve, |fake| fake.put("proc/sys/fs/file-max", "10000")),
        ("fs.epoll.max_user_watches", 12_345, |fake| fake.put("proc/sys/fs/epoll/max_user_watches", "12345")),
        ("memory", memory(1), |fake| fake.put("proc/meminfo", "MemTotal: 67108864 kB\nMemAvailable: 1048576 kB\n")),
        ("memory", memory(2), |fake| {
            fake.put("sys/fs/cgroup/memory.max", &(3 * GIB).to_string());
            fake.put("sys/fs/cgroup/memory.current", &GIB.to_string());
        }),
        ("net.ipv4.tcp_mem", 3000, |fake| fake.put("proc/sys/net/ipv4/tcp_mem", "1000 2000 3000")),
        ("net.ipv4.ip_local_port_range", 55_296, |fake| fake.subject.listen = "127.0.0.1:8080".parse().unwrap()),
    ];
    for (item, allowed, change) in changes {
        let mut fake = Fake::new();
        change(&mut fake);
        let connections = fake.report().connections;
        assert_eq!((connections.limited_by.as_deref(), connections.allowed), (Some(item), Some(allowed)));
        let ask =
            |number| evaluate(&Host::at(fake.folder.path()), &fake.subject, &fake.found, Some(number)).connections;
        assert_eq!((ask(allowed).fits, ask(allowed + 1).fits), (Some(true), Some(false)), "{item}");
    }
    let mut fake = Fake::new();
    fake.put("proc/sys/net/netfilter/nf_conntrack_max", "5000");
    fake.found.tracked = Some(100);
    assert_eq!(fake.report().connections.allowed, Some(4900));
    fake.found.tracked = Some(0);
    assert_ne!(fake.report().connections.limited_by.as_deref(), Some("connection tracking"));
}

#[test]
fn processes_multiply_what_is_theirs() {
    let mut fake = Fake::new();
    fake.found.open_files.hard = Some(1000);
    fake.subject.processes = 3;
    assert_eq!(fake.report().connections.allowed, Some(3 * (1000 - FILES_PER_PROCESS - 2 * FILES_PER_SHARD)));
}

#[test]
fn a_box_that_shows_nothing_is_told_of() {
    let fake = Fake::new();
    fake.remove("proc");
    let mut report = fake.report();
    assert!(report.items.iter().any(|item| item.status == Status::Unknown));
    // The limits of this process are always known.
    assert_eq!(report.connections.limited_by.as_deref(), Some("open files"));
    report.connections.bounds.clear();
    (report.connections.allowed, report.connections.limited_by) = (None, None);
    assert!(report.to_table(false).contains("cannot be seen from here"));
}

#[test]
fn what_apply_sets_is_what_check_wants() {
    let mut fake = Fake::new();
    for wanted in wanted::all() {
        let worse = |&(rule, value): &(wanted::Rule, u64)| match rule {
            wanted::Rule::AtLeast => (value / 2).to_string(),
            wanted::Rule::AtMost | wanted::Rule::Exactly => (value * 2 + 1).to_string(),
        };
        fake.put(&wanted.path(), &wanted.fields.iter().map(worse).collect::<Vec<_>>().join(" "));
    }
    fake.found.tracked = Some(1);
    let wanting = |fake: &Fake| fake.wanting().into_iter().filter(|(name, _)| name.contains('.')).count();
    assert_eq!(wanting(&fake), wanted::all().len());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/apply");
    let output = std::process::Command::new(script).env("FANFARE_TUNING_ROOT", fake.folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(wanting(&fake), 0);
}
