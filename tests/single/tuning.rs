//! `tuning/apply`, `tuning/revert` and `tuning/nic`, on a tree of files that looks like a box. Nothing of this machine is
//! changed: the scripts work below `FANFARE_TUNING_ROOT` only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

struct Tree {
    folder: TempDir,
}

impl Tree {
    /// A box with the kernel's usual settings and no connection tracking.
    fn new() -> Tree {
        let tree = Tree { folder: tempfile::tempdir().unwrap() };
        tree.put("proc/meminfo", "MemTotal:       65536000 kB\n");
        for (name, value) in [
            ("kernel/io_uring_disabled", "0"),
            ("kernel/numa_balancing", "1"),
            ("vm/swappiness", "60"),
            ("fs/file-max", "9223372036854775807"),
            ("fs/nr_open", "1048576"),
            ("fs/epoll/max_user_watches", "5491511"),
            ("net/core/somaxconn", "4096"),
            ("net/core/netdev_max_backlog", "1000"),
            ("net/core/wmem_max", "212992"),
            ("net/core/rps_sock_flow_entries", "0"),
            ("net/ipv4/tcp_max_syn_backlog", "2048"),
            ("net/ipv4/tcp_syncookies", "1"),
            ("net/ipv4/ip_local_port_range", "32768\t60999"),
            ("net/ipv4/tcp_mem", "100\t200\t9999999"),
            ("net/ipv4/tcp_rmem", "4096\t131072\t33554432"),
            ("net/ipv4/tcp_notsent_lowat", "4294967295"),
            ("net/ipv4/tcp_slow_start_after_idle", "1"),
            ("net/ipv4/tcp_max_orphans", "131072"),
            ("net/ipv4/tcp_max_tw_buckets", "131072"),
        ] {
            tree.put(&format!("proc/sys/{name}"), &format!("{value}\n"));
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn sysctl(&self, name: &str) -> String {
        self.get(&format!("proc/sys/{name}"))
    }

    fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    /// Every file below the root with its words.
    fn all(&self) -> BTreeMap<PathBuf, String> {
        fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    continue;
                } else if path.is_dir() {
                    walk(&path, files);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    files.insert(path, text.split_whitespace().collect::<Vec<_>>().join(" "));
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.folder.path(), &mut files);
        files
    }

    fn try_run(&self, script: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(script);
        // The file is for two million, and so are these tests.
        let sized = script == "apply" && !arguments.contains(&"--connections");
        let arguments = [arguments, if sized { &["--connections", "2000000"] } else { &[] }].concat();
        let output =
            Command::new(path).args(arguments).env("FANFARE_TUNING_ROOT", self.folder.path()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &errors)
    }

    #[track_caller]
    fn run(&self, script: &str, arguments: &[&str]) -> String {
        let (status, text) = self.try_run(script, arguments);
        assert_eq!(status, Some(0), "{script} {arguments:?}: {text}");
        text
    }
}

const INSTALLED: &str = "etc/sysctl.d/90-fanfare.conf";

#[test]
fn apply_sets_what_is_an_improvement_and_only_that() {
    let tree = Tree::new();
    tree.run("apply", &[]);
    for (name, value) in [
        ("net/core/somaxconn", "65535"),
        ("net/ipv4/ip_local_port_range", "10240 65535"),
        ("net/ipv4/tcp_notsent_lowat", "32768"),
        ("kernel/numa_balancing", "0"),
        // More than wanted stays, also field by field.
        ("fs/file-max", "9223372036854775807"),
        ("net/ipv4/tcp_rmem", "4096 16384 33554432"),
        ("net/ipv4/tcp_mem", "524288 1048576 9999999"),
    ] {
        assert_eq!(tree.sysctl(name), value, "{name}");
    }
    let installed = tree.get(INSTALLED);
    assert!(installed.contains("# Why: ") && installed.contains("\nnet.core.somaxconn = 65535"), "{installed}");
    assert!(installed.contains("\nnet.ipv4.tcp_rmem = 4096 16384 33554432"), "{installed}");
    // At boot connection tracking is not loaded yet; a box whose kernel is generous must not be made worse.
    assert!(
        installed.contains("\n-net.netfilter.nf_conntrack_max = ") && !installed.contains("fs.file-max ="),
        "{installed}"
    );
    assert!(tree.get("etc/security/limits.d/90-fanfare.conf").contains("fanfare  hard  nofile"));
    assert!(tree.get("etc/udev/rules.d/90-fanfare-conntrack.rules").contains("nf_conntrack"));
}

#[test]
fn twice_is_the_same_as_once_and_revert_puts_everything_back() {
    let tree = Tree::new();
    tree.put(INSTALLED, "# somebody's own\nvm.swappiness = 42\n");
    let before = tree.all();
    tree.run("apply", &["--dry-run"]);
    assert_eq!(tree.all(), before, "a dry run changes nothing");
    tree.run("apply", &[]);
    let once = tree.all();
    let text = tree.run("apply", &[]);
    assert_eq!(tree.all(), once);
    assert!(text.contains("0 changes, 0 refused"), "{text}");
    tree.run("revert", &[]);
    assert_eq!(tree.all(), before);
    assert!(tree.run("revert", &[]).contains("nothing to revert"));
}

#[test]
fn what_somebody_changed_since_stays() {
    let tree = Tree::new();
    tree.run("apply", &[]);
    tree.put("proc/sys/vm/swappiness", "5\n");
    let text = tree.run("revert", &[]);
    assert_eq!((tree.sysctl("vm/swappiness"), tree.sysctl("net/core/somaxconn")), ("5".to_owned(), "4096".to_owned()));
    assert!(text.contains("leave  vm.swappiness = 5"), "{text}");
}

#[test]
fn what_apply_leaves_undoes_it_when_the_scripts_are_gone() {
    let tree = Tree::new();
    let before = tree.all();
    tree.run("apply", &[]);
    assert_ne!(tree.all(), before);
    let revert = tree.path("var/lib/fanfare-tuning/revert");
    let status = Command::new(revert).env("FANFARE_TUNING_ROOT", tree.folder.path()).status().unwrap();
    assert!(status.success());
    assert_eq!(tree.all(), before);
}

#[test]
fn few_viewers_want_few_changes() {
    let tree = Tree::new();
    tree.run("apply", &["--connections", "10000"]);
    for (name, value) in [
        ("net/core/somaxconn", "4096"),
        ("fs/nr_open", "1048576"),
        ("net/ipv4/ip_local_port_range", "32768\t60999"),
        ("net/ipv4/tcp_rmem", "4096\t131072\t33554432"),
        ("vm/swappiness", "60"),
        ("net/ipv4/tcp_slow_start_after_idle", "0"),
    ] {
        assert_eq!(tree.sysctl(name), value, "{name}");
    }
    let tree = Tree::new();
    tree.run("apply", &["--connections", "100000"]);
    assert_eq!(tree.sysctl("net/core/somaxconn"), "13107");
    assert_eq!(tree.sysctl("net/ipv4/ip_local_port_range"), "10240 65535");
    for bad in ["0", "x", "", "-1"] {
        assert_eq!(tree.try_run("apply", &["--connections", bad]).0, Some(2), "{bad}");
    }
}

#[test]
fn io_uring_is_never_opened_to_everybody() {
    let tree = Tree::new();
    tree.put("proc/sys/kernel/io_uring_disabled", "2\n");
    tree.put("proc/sys/kernel/io_uring_group", "-1\n");
    let before = tree.all();
    assert!(tree.run("apply", &[]).contains("no group fanfare"));
    assert_eq!(tree.sysctl("kernel/io_uring_disabled"), "2");
    tree.run("revert", &[]);
    assert_eq!(tree.all(), before);
    tree.put("etc/group", "root:x:0:\nfanfare:x:997:\n");
    let before = tree.all();
    tree.run("apply", &[]);
    assert_eq!(
        (tree.sysctl("kernel/io_uring_disabled"), tree.sysctl("kernel/io_uring_group")),
        ("1".into(), "997".into())
    );
    assert!(tree.get(INSTALLED).contains("-kernel.io_uring_group = 997\n-kernel.io_uring_disabled = 1"));
    let once = tree.all();
    assert!(tree.run("apply", &[]).contains("0 changes"));
    assert_eq!(tree.all(), once);
    tree.run("revert", &[]);
    assert_eq!(tree.all(), before);
    // A group that somebody else chose is not taken away from them.
    tree.put("proc/sys/kernel/io_uring_group", "42\n");
    assert!(tree.run("apply", &[]).contains("add the user fanfare to that group"));
    assert_eq!(
        (tree.sysctl("kernel/io_uring_disabled"), tree.sysctl("kernel/io_uring_group")),
        ("2".into(), "42".into())
    );
}

#[test]
fn ports_of_those_who_listen_are_kept_for_them() {
    let tree = Tree::new();
    tree.put("proc/sys/net/ipv4/ip_local_reserved_ports", "\n");
    let line = |port: u16, state: &str| {
        format!("   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1\n")
    };
    tree.put(
        "proc/net/tcp",
        &["  sl  local\n".to_owned(), line(6379, "0A"), line(16_379, "0A"), line(20_000, "01")].concat(),
    );
    tree.put("proc/net/tcp6", &line(26_379, "0A"));
    let before = tree.all();
    tree.run("apply", &[]);
    assert_eq!(tree.sysctl("net/ipv4/ip_local_reserved_ports"), "16379,26379");
    assert!(tree.get(INSTALLED).contains("ip_local_reserved_ports = 16379,26379"));
    let once = tree.all();
    assert!(tree.run("apply", &[]).contains("0 changes"));
    assert_eq!(tree.all(), once);
    tree.run("revert", &[]);
    assert_eq!(tree.all(), before);
}

#[test]
fn a_small_box_keeps_its_tcp_memory() {
    let tree = Tree::new();
    tree.put("proc/meminfo", "MemTotal:       4096000 kB\n");
    tree.run("apply", &[]);
    assert_eq!(tree.sysctl("net/ipv4/tcp_mem"), "100\t200\t9999999");
    assert!(!tree.get(INSTALLED).contains("tcp_mem"));
}

#[test]
fn a_setting_that_the_kernel_refuses_is_told_of() {
    let tree = Tree::new();
    // Nobody, root included, writes to a folder as to a file.
    fs::remove_file(tree.path("proc/sys/vm/swappiness")).unwrap();
    fs::create_dir(tree.path("proc/sys/vm/swappiness")).unwrap();
    let (status, text) = tree.try_run("apply", &[]);
    assert!(status == Some(1) && text.contains("failed vm.swappiness"), "{text}");
    assert_eq!(tree.sysctl("net/core/somaxconn"), "65535", "the others are set all the same");
}

#[test]
fn unknown_arguments_are_refused() {
    let tree = Tree::new();
    let before = tree.all();
    for (script, arguments) in [("apply", ["--now"]), ("revert", ["--now"]), ("nic", ["--now"]), ("nic", ["nothing0"])]
    {
        let (status, text) = tree.try_run(script, &arguments);
        assert_ne!(status, Some(0), "{script}: {text}");
    }
    assert_eq!(tree.all(), before);
}

/// A card of `queues` pairs of queues, each with an interrupt, on a box of `cores`.
fn with_card(cores: usize, queues: usize) -> Tree {
    let tree = Tree::new();
    tree.put("sys/devices/system/cpu/online", &format!("0-{}\n", cores - 1));
    let mut interrupts = "            CPU0\n  9:   0   IO-APIC  9-fasteoi  acpi\n".to_owned();
    for folder in ["sys/devices/pci0/msi_irqs", "sys/class/net/eth0"] {
        fs::create_dir_all(tree.path(folder)).unwrap();
    }
    tree.put("sys/class/net/eth0/operstate", "up\n");
    symlink("../../../devices/pci0", tree.path("sys/class/net/eth0/device")).unwrap();
    for queue in 0..queues {
        let number = 40 + queue;
        interrupts += &format!(" {number}:   5   PCI-MSIX-0000:00:03.0  {queue}-edge      eth0-TxRx-{queue}\n");
        tree.put(&format!("sys/devices/pci0/msi_irqs/{number}"), "msix\n");
        tree.put(&format!("proc/irq/{number}/smp_affinity_list"), &format!("0-{}\n", cores - 1));
        for (file, text) in [("rx-", "rps_cpus"), ("rx-", "rps_flow_cnt"), ("tx-", "xps_cpus")] {
            tree.put(&format!("sys/class/net/eth0/queues/{file}{queue}/{text}"), "00000000,00000000\n");
        }
    }
    interrupts += " 39:   1   PCI-MSIX-0000:00:03.0  99-edge      eth0-config\n";
    tree.put("sys/devices/pci0/msi_irqs/39", "msix\n");
    tree.put("proc/irq/39/smp_affinity_list", "0\n");
    tree.put("proc/irq/9/smp_affinity_list", "0\n");
    tree.put("proc/interrupts", &interrupts);
    tree
}

#[test]
fn each_queue_gets_the_core_of_its_shard() {
    let tree = with_card(12, 12);
    let before = tree.all();
    let text = tree.run("nic", &[]);
    assert!(
        text.contains("set   /proc/irq/51/smp_affinity_list = 11") && text.contains("nothing was changed"),
        "{text}"
    );
    assert_eq!(tree.all(), before);
    tree.run("nic", &["--apply", "eth0"]);
    for queue in 0..12 {
        assert_eq!(tree.get(&format!("proc/irq/{}/smp_affinity_list", 40 + queue)), queue.to_string());
        assert_eq!(tree.get(&format!("sys/class/net/eth0/queues/tx-{queue}/xps_cpus")), format!("{:x}", 1 << queue));
        assert!(
            ["0", "00000000,00000000"]
                .contains(&tree.get(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus")).as_str())
        );
    }
    assert_eq!(
        (tree.get("proc/irq/9/smp_affinity_list"), tree.get("proc/irq/39/smp_affinity_list")),
        ("0".into(), "0".into())
    );
    let once = tree.all();
    assert!(tree.run("nic", &["--apply"]).contains("0 changes"));
    assert_eq!(tree.all(), once);
    tree.run("nic", &["--revert"]);
    assert_eq!(tree.all(), before);
}

#[test]
fn fewer_queues_than_shards_steer_packets_on() {
    let tree = with_card(40, 2);
    tree.run("nic", &["--apply", "--cores", "1,3,33,35", "eth0"]);
    assert_eq!(
        (tree.get("proc/irq/40/smp_affinity_list"), tree.get("proc/irq/41/smp_affinity_list")),
        ("1".into(), "3".into())
    );
    // Cores 1 and 33 send by the first queue, 3 and 35 by the second; all four take packets of both.
    assert_eq!(tree.get("sys/class/net/eth0/queues/tx-0/xps_cpus"), "2,00000002");
    assert_eq!(tree.get("sys/class/net/eth0/queues/tx-1/xps_cpus"), "8,00000008");
    assert_eq!(tree.get("sys/class/net/eth0/queues/rx-1/rps_cpus"), "a,0000000a");
    assert_eq!(tree.get("sys/class/net/eth0/queues/rx-1/rps_flow_cnt"), "32768");
    assert_eq!(tree.sysctl("net/core/rps_sock_flow_entries"), "65536");
    let (status, text) = tree.try_run("nic", &["--cores", "1,x"]);
    assert!(status != Some(0) && text.contains("no list of cores"), "{text}");
}
