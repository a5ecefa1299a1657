//! `fanfare check` against what the kernel says to the test itself, item by item, and under limits that the test sets.

use crate::support;
use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::node::{Node, program, program_behind};
use support::seccomp::refusing;

fn fanfare() -> &'static str {
    env!("CARGO_BIN_EXE_fanfare")
}

/// Runs `fanfare check` below `prlimit` with these limits.
fn limited(limits: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.args(limits).arg(fanfare()).arg("check").args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().expect("prlimit, of util-linux")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn check(arguments: &[&str]) -> Value {
    json(&limited(&[], &[arguments, &["--json"]].concat()))
}

fn item<'a>(report: &'a Value, name: &str) -> &'a Value {
    let items = report["items"].as_array().unwrap();
    items.iter().find(|item| item["item"] == name).unwrap_or_else(|| panic!("no item {name} in {report}"))
}

fn found<'a>(report: &'a Value, name: &str) -> &'a str {
    item(report, name)["found"].as_str().unwrap()
}

fn bound(report: &Value, name: &str) -> u64 {
    let bounds = report["connections"]["bounds"].as_array().unwrap();
    bounds.iter().find(|bound| bound["item"] == name).unwrap_or_else(|| panic!("no bound {name}"))["allows"]
        .as_u64()
        .unwrap()
}

fn words(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A line of `/proc/self/limits`, which the program inherits: soft and hard.
fn limits(name: &str) -> [String; 2] {
    let text = fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut fields = line.split_whitespace().map(str::to_owned);
    [fields.next().unwrap(), fields.next().unwrap()]
}

#[test]
fn every_kernel_setting_is_as_the_kernel_shows_it() {
    let report = check(&["--connections", "2000000"]);
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/sysctl.conf")).unwrap();
    let mut seen = 0;
    for line in file.lines().filter(|line| !line.starts_with('#') && line.contains('=')) {
        let (name, wanted) = line.split_once(" = ").unwrap();
        let name = name.trim_start_matches('-');
        let item = item(&report, name);
        match words(&format!("/proc/sys/{}", name.replace('.', "/"))) {
            Some(shown) => {
                assert_eq!(item["found"], shown, "{name}");
                if shown == wanted {
                    assert_ne!(item["status"], "advice", "{name}");
                }
            }
            None => assert!(["absent", "unknown"].contains(&item["status"].as_str().unwrap()), "{item}"),
        }
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
    let somaxconn = words("/proc/sys/net/core/somaxconn").unwrap().parse::<u64>().unwrap();
    assert_eq!(item(&report, "net.core.somaxconn")["status"], if somaxconn < 65_535 { "advice" } else { "ok" });
}

#[test]
fn every_other_item_is_as_the_box_is() {
    let report = check(&[]);
    let release = Command::new("uname").arg("-r").output().unwrap().stdout;
    assert_eq!(found(&report, "kernel"), String::from_utf8(release).unwrap().trim());
    let [soft, hard] = limits("Max open files");
    assert_eq!(found(&report, "open files"), format!("soft {soft}, hard {hard}"));
    let [soft, hard] = limits("Max locked memory");
    assert_eq!(found(&report, "locked memory"), format!("soft {soft}, hard {hard}"));
    // nproc knows the affinity, as the program should.
    let processors =
        Command::new("nproc").env_clear().env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap().stdout;
    let processors = String::from_utf8(processors).unwrap().trim().to_owned();
    assert_eq!(found(&report, "cores"), format!("{processors} shards, {processors} processors allowed"));
    let clock = words("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    assert_eq!(found(&report, "clock source"), clock);
    let pages = words("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = found(&report, "transparent huge pages");
    assert!(chosen.is_empty() && pages.is_empty() || pages.contains(&format!("[{chosen}]")), "{chosen} {pages}");
    let tracking = words("/proc/sys/net/netfilter/nf_conntrack_max");
    let shown = found(&report, "connection tracking");
    match tracking {
        Some(max) => assert!(shown.ends_with(&format!("table of {max}")), "{shown}"),
        None => assert_eq!(shown, "not loaded"),
    }
    // These tests run where nodes run, so the probe says yes.
    assert_eq!(
        (found(&report, "io_uring"), &item(&report, "io_uring")["status"]),
        ("an executor started", &"ok".into())
    );
}

#[test]
fn disk_and_swap_are_those_of_the_box() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("fanfare.db").display());
    let report = check(&["--db", &database]);
    let df = Command::new("df").args(["--output=avail", "-B1048576"]).arg(folder.path()).output().unwrap().stdout;
    let free: u64 = String::from_utf8(df).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let shown: u64 = found(&report, "free disk").split(' ').next().unwrap().parse().unwrap();
    // Other tests write meanwhile.
    assert!(shown > free / 2 && shown < free * 2 + 1000, "{shown} MiB, df says {free}");
    assert!(found(&report, "flush to disk").ends_with(" ms"), "{}", found(&report, "flush to disk"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
    let swaps = fs::read_to_string("/proc/swaps").unwrap().lines().count() > 1;
    assert_eq!(found(&report, "swap") != "none", swaps, "{}", item(&report, "swap"));
    // A role that stores nothing has no disk to look at.
    let frontend = check(&["frontend", "--dispatchers", "http://127.0.0.1:1"]);
    assert!(frontend["items"].as_array().unwrap().iter().all(|item| item["item"] != "free disk"));
}

#[test]
fn the_clock_is_as_another_program_sees_it() {
    const ASK: &str = "import ctypes, sys\n\
        buffer = (ctypes.c_char * 256)()\n\
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)\n\
        status = int.from_bytes(buffer[40:44], sys.byteorder)\n\
        print(state, status & 64)";
    let output = Command::new("python3").args(["-c", ASK]).output().expect("python3; scripts/test installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<i32> = text.split_whitespace().map(|field| field.parse().unwrap()).collect();
    let synchronised = fields[0] >= 0 && fields[0] != 5 && fields[1] == 0;
    let report = check(&[]);
    assert_eq!(found(&report, "clock").starts_with("synchronised"), synchronised, "{text} {}", item(&report, "clock"));
}

#[test]
fn connections_are_bounded_by_what_the_kernel_shows() {
    let report = check(&[]);
    let number =
        |path: &str, field: usize| -> u64 { words(path).unwrap().split(' ').nth(field).unwrap().parse().unwrap() };
    assert_eq!(bound(&report, "fs.epoll.max_user_watches"), number("/proc/sys/fs/epoll/max_user_watches", 0));
    assert_eq!(bound(&report, "net.ipv4.tcp_mem"), number("/proc/sys/net/ipv4/tcp_mem", 2));
    let [low, high] = [0, 1].map(|field| number("/proc/sys/net/ipv4/ip_local_port_range", field));
    assert_eq!(bound(&report, "net.ipv4.ip_local_port_range"), high - low + 1);
    // Those that others use as well change while the test runs.
    let about = |name: &str, expected: u64| {
        let allowed = bound(&report, name);
        assert!(allowed > expected / 2 && allowed < expected * 2 + 1000, "{name}: {allowed}, expected {expected}");
    };
    about("fs.file-max", number("/proc/sys/fs/file-max", 0).saturating_sub(number("/proc/sys/fs/file-nr", 0)));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    let available: u64 = available.trim().trim_end_matches(" kB").parse().unwrap();
    // A control group may leave less.
    assert!(bound(&report, "memory") < available * 2 / 6);
    let smallest =
        report["connections"]["bounds"].as_array().unwrap().iter().map(|bound| bound["allows"].as_u64().unwrap()).min();
    assert_eq!(report["connections"]["allowed"].as_u64(), smallest);
    let limited_by = report["connections"]["limited_by"].as_str().unwrap();
    assert_eq!(Some(bound(&report, limited_by)), smallest);
    assert!(
        check(&["--listen", "0.0.0.0:8080"])["connections"]["bounds"]
            .as_array()
            .unwrap()
            .iter()
            .all(|bound| bound["item"] != "net.ipv4.ip_local_port_range"),
        "other boxes have ports of their own"
    );
}

#[test]
fn an_open_files_limit_moves_the_answer() {
    let report = |files: u64| json(&limited(&[&format!("--nofile={files}:{files}")], &["--json", "--cores", "1"]));
    let (small, large) = (report(1000), report(3000));
    assert_eq!(found(&small, "open files"), "soft 1000, hard 1000");
    assert_eq!(small["connections"]["limited_by"], "open files");
    assert_eq!(bound(&large, "open files") - bound(&small, "open files"), 2000);
    let two = json(&limited(&["--nofile=1000:1000"], &["--json", "--cores", "1", "--processes", "2"]));
    assert_eq!(bound(&two, "open files"), 2 * bound(&small, "open files"));
    // Only the hard limit counts, since a node raises the soft one.
    let soft = json(&limited(&["--nofile=500:3000"], &["--json", "--cores", "1"]));
    assert_eq!(bound(&soft, "open files"), bound(&large, "open files"));
}

#[test]
fn connections_that_do_not_fit_are_exit_status_1() {
    let allowed = json(&limited(&["--nofile=1000:1000"], &["--json"]))["connections"]["allowed"].as_u64().unwrap();
    let ask = |number: u64| limited(&["--nofile=1000:1000"], &["--connections", &number.to_string()]);
    let (fits, too_many) = (ask(allowed), ask(allowed + 1));
    assert_eq!((fits.status.code(), too_many.status.code()), (Some(0), Some(1)));
    let text = String::from_utf8(too_many.stdout).unwrap();
    assert!(text.contains("do not fit") && text.contains("limited by open files"), "{text}");
    let asked = json(&limited(&["--nofile=1000:1000"], &["--json", "--connections", "5000"]));
    assert_eq!((&asked["connections"]["wanted"], &asked["connections"]["fits"]), (&5000.into(), &false.into()));
}

#[test]
fn what_is_blocked_does_not_start() {
    let limits = ["--memlock=65536:65536"];
    let output = limited(&limits, &["--json", "--io", "uring"]);
    let report = json(&output);
    assert_eq!((output.status.code(), &report["verdict"]), (Some(1), &"blocked".into()));
    assert_eq!(item(&report, "locked memory")["status"], "blocked");
    assert_eq!(item(&report, "io_uring")["status"], "blocked");
    let folder = tempfile::tempdir().unwrap();
    let node = Command::new("prlimit")
        .args(limits)
        .arg(fanfare())
        .args(["all", "--io", "uring", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", "sqlite:f.db"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(node.status.code(), Some(2), "{node:?}");
}

#[test]
fn advice_is_no_reason_to_stop() {
    let output = limited(&["--nofile=1000:1000"], &["--json"]);
    assert_eq!(
        (output.status.code(), &json(&output)["verdict"]),
        (Some(0), &"advice".into()),
        "1,000 open files cost something"
    );
}

#[test]
fn it_looks_at_what_the_role_would_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fanfare.toml");
    fs::write(&file, "cores = 1\nlisten = \"127.0.0.1:40000\"\ndispatchers = [\"http://127.0.0.1:1\"]\n").unwrap();
    let file = file.to_str().unwrap();
    let report = check(&["frontend", "--config", file]);
    assert_eq!((&report["role"], report["cores"].as_array().unwrap().len()), (&"frontend".into(), 1));
    assert_eq!(report["listen"], "127.0.0.1:40000");
    let code = |arguments: &[&str]| {
        let output = limited(&[], arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, message) = code(&["--cores", "1000"]);
    assert!(status == Some(2) && message.contains("--cores"), "{message}");
    let (status, message) = code(&["frontend"]);
    assert!(status == Some(2) && message.contains("--dispatchers"), "{message}");
    let (status, message) = code(&["everything"]);
    assert!(status == Some(2) && message.contains("frontend"), "{message}");
    let printed = limited(&[], &["--config", file, "--print-config"]);
    assert!(String::from_utf8(printed.stdout).unwrap().contains("127.0.0.1:40000"));
}

#[test]
fn the_table_has_every_item_and_no_colours_in_a_pipe() {
    let report = check(&[]);
    let text = String::from_utf8(limited(&[], &[]).stdout).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    for item in report["items"].as_array().unwrap() {
        let name = item["item"].as_str().unwrap();
        let line = text.lines().find(|line| {
            line.split("  ").any(|cell| cell.trim() == name || cell.trim().ends_with(&format!(" {name}")))
        });
        let line = line.unwrap_or_else(|| panic!("no line of {name} in\n{text}"));
        assert!(
            line.contains(item["status"].as_str().unwrap()) && line.contains(item["wanted"].as_str().unwrap()),
            "{line}"
        );
    }
}

#[test]
fn a_node_opens_no_more_other_files_than_are_set_aside() {
    let node = Node::start();
    let _streams: Vec<_> = (0..40).map(|number| node.stream(&format!("topic=live:{number}"))).collect();
    let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count() as u64;
    let report = json(&limited(&["--nofile=1000:1000"], &["--json", "--cores", "2"]));
    let reserved = 1000 - bound(&report, "open files");
    assert!(open > 40 && open - 40 <= reserved, "{open} open files, {reserved} set aside");
}

#[test]
fn a_box_without_sys_is_told_of_and_does_not_panic() {
    let output = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /sys && exec \"$0\" check --json --io uring",
            fanfare(),
        ])
        .output()
        .expect("unshare, of util-linux");
    let report = json(&output);
    assert_eq!((output.status.code(), &item(&report, "io_uring")["status"]), (Some(1), &"blocked".into()));
    assert!(found(&report, "io_uring").contains("mount /sys"), "{}", found(&report, "io_uring"));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_machine_without_io_uring_is_told_of_before_anybody_is_greeted() {
    let folder = tempfile::tempdir().unwrap();
    let refused = [
        ("io_uring_setup", libc::SYS_io_uring_setup, libc::EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, libc::ENOSYS),
        ("io_uring_register", libc::SYS_io_uring_register, libc::EPERM),
        ("io_uring_enter", libc::SYS_io_uring_enter, libc::EPERM),
    ];
    for (name, call, errno) in refused {
        let mut node = program();
        let database = format!("sqlite:{}", folder.path().join("f.db").display());
        node.args(["all", "--io", "uring", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--db", &database]);
        let output = refusing(node, call, errno).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{errors}");
        let sentence =
            format!("fanfare: io_uring: {name}: {}: no shard starts", std::io::Error::from_raw_os_error(errno));
        assert!(errors.starts_with(&sentence) && errors.contains("seccomp") && errors.lines().count() == 1, "{errors}");
        assert!(!folder.path().join("f.db").exists(), "no database is left behind");

        for (io, code, status) in [("uring", 1, "blocked"), ("auto", 0, "advice"), ("epoll", 0, "absent")] {
            let mut check = program();
            check.args(["check", "--json", "--io", io]);
            let output = refusing(check, call, errno).output().unwrap();
            assert_eq!((output.status.code(), &*output.stderr), (Some(code), &b""[..]), "{io}: {output:?}");
            let report = json(&output);
            assert_eq!(item(&report, "io_uring")["status"], status, "{io}");
            assert!(io == "epoll" || found(&report, "io_uring").starts_with(name), "{report}");
        }
    }
}

#[test]
fn too_little_lockable_memory_is_told_of_like_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = program_behind(&["prlimit".to_owned(), "--memlock=65536".to_owned()]);
    let database = format!("sqlite:{}", folder.path().join("f.db").display());
    node.args(["all", "--io", "uring", "--cores", "1", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0"]);
    node.args(["--db", &database]);
    node.env("PATH", std::env::var_os("PATH").unwrap());
    let output = node.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{errors}");
    assert!(errors.contains("no shard starts") && !errors.contains("panicked"), "{errors}");
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    let database = format!("sqlite:{}", folder.path().join("f.db").display());
    command.args([
        "all",
        "--cores",
        "1",
        "--drain",
        "1s",
        "--listen",
        "127.0.0.1:0",
        "--internal",
        "127.0.0.1:0",
        "--db",
        &database,
    ]);
    command.stdout(Stdio::piped()).stderr(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let mut node = command.spawn().unwrap();
    let mut greeting = [0; 7];
    std::io::Read::read_exact(node.stdout.as_mut().unwrap(), &mut greeting).expect("it greets");
    // It logs that it starts and that it ends.
    // SAFETY: a signal to a child that was not waited for yet.
    assert_eq!(unsafe { libc::kill(node.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(node.wait().unwrap().code(), Some(0));
}
