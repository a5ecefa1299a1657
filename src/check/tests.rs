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
                io: Io::Uring,
                cores: vec![0, 2],
                allowed: vec![0, 1, 2, 3],
                processes: 1,
                listen: "0.0.0.0:8080".parse().unwrap(),
                internal: "127.0.0.1:8081".parse().unwrap(),
                expected: 2_000_000,
                services: Vec::new(),
            },
            found: Found {
                executor: Ok(()),
                open_files: limit(2_097_152),
                locked_memory: limit(64 << 20),
                clock: Ok(ClockState { synchronised: true, error_max_us: 20_000 }),
                tracked: None,
                page_bytes: 4096,
                disk: None,
            },
        };
        for wanted in wanted::all() {
            fake.put(&wanted.path(), &wanted.value().replace(' ', "\t"));
        }
        fake.put("proc/sys/kernel/osrelease", "6.6.0-13-amd64\n");
        fake.put("proc/sys/kernel/io_uring_disabled", "0\n");
        fake.put("proc/sys/kernel/io_uring_group", "-1\n");
        fake.put("proc/sys/fs/file-nr", "1000\t0\t2500000\n");
        fake.put(
            "proc/meminfo",
            &format!("MemTotal: {0} kB\nMemAvailable: {0} kB\nSwapTotal: 0 kB\n", 64 * GIB / 1024),
        );
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

    /// Names of the items that cost something.
    fn advice(&self) -> Vec<String> {
        self.wanting().into_iter().filter(|(_, status)| *status == Status::Advice).map(|(name, _)| name).collect()
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

fn disk(free: u64, flush_ms: u64) -> Disk {
    Disk { folder: "/var/lib/fanfare".into(), free, flush: Ok(std::time::Duration::from_millis(flush_ms)) }
}

#[test]
fn each_other_thing_is_looked_at() {
    type Change = fn(&mut Fake);
    let changes: [(&str, Status, Change); 21] = [
        ("kernel", Status::Blocked, |fake| fake.put("proc/sys/kernel/osrelease", "5.10.0-8-amd64")),
        ("kernel", Status::Blocked, |fake| fake.put("proc/sys/kernel/osrelease", "4.19")),
        ("io_uring", Status::Blocked, |fake| fake.found.executor = Err(io::ErrorKind::PermissionDenied.into())),
        ("locked memory", Status::Blocked, |fake| fake.found.locked_memory.soft = Some(65_536)),
        ("open files", Status::Advice, |fake| fake.found.open_files.hard = Some(2_000_000)),
        ("swap", Status::Advice, |fake| {
            fake.put(
                "proc/meminfo",
                "MemTotal: 67108864 kB\nMemAvailable: 67108864 kB\nSwapTotal: 900000 kB\nSwapFree: 800000 kB\n",
            );
        }),
        ("processor quota", Status::Advice, |fake| {
            fake.put("proc/self/cgroup", "0::/a/b\n");
            fake.put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
            fake.put("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
        }),
        ("processor quota", Status::Advice, |fake| {
            fake.put("proc/self/cgroup", "3:cpu,cpuacct:/a\n");
            fake.put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n");
            fake.put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
            fake.put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        }),
        ("free disk", Status::Advice, |fake| fake.found.disk = Some(disk(GIB, 1))),
        ("flush to disk", Status::Advice, |fake| fake.found.disk = Some(disk(90 * GIB, 30))),
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
    let output = std::process::Command::new(script)
        .args(["--connections", "2000000"])
        .env("FANFARE_TUNING_ROOT", fake.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(wanting(&fake), 0);
}

#[test]
fn few_viewers_get_little_advice() {
    let mut fake = Fake::new();
    // As a new Debian has it.
    for (name, value) in [
        ("fs/nr_open", "1048576"),
        ("fs/file-max", "9223372036854775807"),
        ("fs/epoll/max_user_watches", "3600000"),
        ("net/core/somaxconn", "4096"),
        ("net/core/netdev_max_backlog", "1000"),
        ("net/ipv4/tcp_max_syn_backlog", "1024"),
        ("net/ipv4/ip_local_port_range", "32768 60999"),
        ("net/ipv4/tcp_mem", "188000 251000 376000"),
        ("net/ipv4/tcp_rmem", "4096 131072 6291456"),
        ("net/ipv4/tcp_notsent_lowat", "4294967295"),
        ("net/ipv4/tcp_max_orphans", "65536"),
        ("net/ipv4/tcp_max_tw_buckets", "65536"),
        ("vm/swappiness", "60"),
    ] {
        fake.put(&format!("proc/sys/{name}"), value);
    }
    assert_eq!(fake.advice().len(), 11);
    fake.subject.expected = 10_000;
    assert_eq!(fake.advice().len(), 0, "{:?}", fake.wanting());
    fake.found.open_files.hard = Some(10_000);
    assert_eq!(fake.advice().len(), 1, "not for other files as well");
    fake.subject.expected = 100_000;
    assert!((3..11).contains(&fake.advice().len()), "{:?}", fake.wanting());
    let report = fake.report();
    let wanted = &report.items.iter().find(|item| item.item == "net.core.somaxconn").unwrap().wanted;
    assert_eq!(wanted, "at least 13107");
}

#[test]
fn what_io_uring_lacks_blocks_nothing_where_epoll_will_do() {
    for (io, status) in [(Io::Auto, Status::Advice), (Io::Epoll, Status::Absent)] {
        let mut fake = Fake::new();
        fake.subject.io = io;
        fake.put("proc/sys/kernel/osrelease", "4.19");
        fake.put("proc/sys/kernel/io_uring_disabled", "2");
        fake.found.executor = Err(io::ErrorKind::PermissionDenied.into());
        fake.found.locked_memory.soft = Some(65_536);
        let names = ["kernel", "io_uring", "kernel.io_uring_disabled", "locked memory"];
        assert_eq!(fake.wanting(), names.map(|name| (name.to_owned(), status)));
        assert!(fake.report().passes());
    }
}

#[test]
fn io_uring_is_for_the_group_where_it_is_restricted() {
    let mut fake = Fake::new();
    fake.put("proc/sys/kernel/io_uring_disabled", "1");
    fake.put("proc/sys/kernel/io_uring_group", "997");
    assert_eq!(fake.wanting(), [], "this user is of the group");
    fake.found.executor = Err(io::ErrorKind::PermissionDenied.into());
    let names: Vec<String> = fake.wanting().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["io_uring", "kernel.io_uring_disabled"]);
    let report = fake.report();
    let item = report.items.iter().find(|item| item.item == "kernel.io_uring_disabled").unwrap();
    assert!(item.remedy.contains("io_uring_group") && !item.remedy.contains("disabled = 0"), "{item:?}");
}

#[test]
fn ports_of_others_are_seen() {
    let mut fake = Fake::new();
    fake.subject.services = vec![16_000];
    let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let line = |port: u16, state: &str| {
        format!("   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000\n")
    };
    // Redis Cluster's bus; an outgoing connection; a port that may be anybody's; one out of the range.
    let lines = [line(16_379, "0A"), line(20_000, "01"), line(40_000, "0A"), line(6_379, "0A")].concat();
    fake.put("proc/net/tcp", &format!("{head}{lines}"));
    fake.wants("listeners' ports", Status::Advice);
    let report = fake.report();
    let item = report.items.iter().find(|item| item.item == "listeners' ports").unwrap();
    assert!(item.found.ends_with("others listen on 16000 16379"), "{item:?}");
    assert!(item.remedy.ends_with("ip_local_reserved_ports=16000,16379"), "{item:?}");
    fake.put("proc/sys/net/ipv4/ip_local_reserved_ports", "16000,16300-16400");
    assert_eq!(fake.wanting(), []);
}

#[test]
fn a_proxy_on_the_box_counts() {
    let mut fake = Fake::new();
    fake.subject.listen = "127.0.0.1:8080".parse().unwrap();
    fake.subject.expected = 20_000;
    for process in [7, 8] {
        fake.put(&format!("proc/{process}/comm"), "nginx\n");
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            10000                524288               files     \n";
        fake.put(&format!("proc/{process}/limits"), text);
    }
    assert_eq!(fake.advice(), ["files of nginx"]);
    let connections = fake.report().connections;
    let memory = connections.bounds.iter().find(|bound| bound.item == "memory").unwrap();
    assert!(memory.because.contains("nginx with TLS"), "{memory:?}");
    fake.subject.expected = 10_000;
    assert!(fake.advice().is_empty());
}
