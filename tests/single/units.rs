//! The systemd units, as systemd reads them, and the example configuration, as the program does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

const ROLES: [&str; 5] =
    ["fanfare-all", "fanfare-frontend", "fanfare-dispatcher", "fanfare-backend", "fanfare-frontend@"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn unit(name: &str) -> String {
    fs::read_to_string(here("tuning/systemd").join(format!("{name}.service"))).unwrap()
}

/// The values of a setting in a unit, in their order.
fn values<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

fn value<'a>(unit: &'a str, name: &str) -> &'a str {
    let all = values(unit, name);
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all[0]
}

/// The units with the programs of this build, in a folder of their own, and an instance of the one that has instances.
fn installed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(here("tuning/systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("/usr/bin/fanfare") || text.contains("/usr/share/fanfare/tuning"), "{}", path.display());
        let text = text
            .replace("/usr/bin/fanfare", env!("CARGO_BIN_EXE_fanfare"))
            .replace("/usr/share/fanfare/tuning/nic", here("tuning/nic").to_str().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap().replace("@.", "@8101.");
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn analyze(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new("systemd-analyze");
    // Those of the box follow ours: network-online.target and its like.
    command.args(arguments).env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    command.output().expect("systemd-analyze, of systemd; scripts/test installs it")
}

fn verify(folder: &Path) -> (bool, String) {
    let units: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    assert_eq!(units.len(), ROLES.len() + 1);
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let output = analyze(&[&["verify", "--man=no"][..], &units].concat(), folder);
    // It also complains of what else is installed on the box.
    let complaints = String::from_utf8(output.stderr).unwrap();
    let ours: Vec<&str> = complaints.lines().filter(|line| line.contains("fanfare")).collect();
    (output.status.success() && ours.is_empty(), complaints)
}

#[test]
fn systemd_accepts_every_unit() {
    let folder = installed();
    let (good, complaints) = verify(folder.path());
    assert!(good, "{complaints}");
    // And would not accept just anything.
    let path = folder.path().join("fanfare-all.service");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("WatchdogSec=20s", "WatchdogSec=often"), ("SystemCallFilter=@system-service", "SystemCallFilter=@everything")]
    {
        fs::write(&path, text.replace(from, to)).unwrap();
        assert!(!verify(folder.path()).0, "{to}");
    }
}

#[test]
fn units_are_hardened_and_alike() {
    let folder = installed();
    for role in ROLES {
        let path = folder.path().join(format!("{}.service", role.replace('@', "@8101")));
        let output = analyze(&["security", "--offline=yes", "--threshold=20", path.to_str().unwrap()], folder.path());
        assert!(
            output.status.success(),
            "{role} is exposed by more than 2.0: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    // All that is not about what runs is the same in every unit.
    let rest = |role: &str| {
        let own = ["Exec", "Description", "Environment", "After", "#", "  "];
        unit(role)
            .lines()
            .filter(|line| !own.iter().any(|own| line.starts_with(own)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for role in &ROLES[1..] {
        assert_eq!(rest(role), rest(ROLES[0]), "{role}");
    }
}

#[test]
fn seccomp_lets_io_uring_and_the_clock_through() {
    let set = |name: &str| {
        let output = analyze(&["syscall-filter", name], Path::new("/"));
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    // Sets may contain sets.
    fn expand(names: &[String], set: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
        let one = |name: &String| match name.starts_with('@') {
            true => expand(&set(name)[1..], set),
            false => vec![name.clone()],
        };
        names.iter().flat_map(one).collect()
    }
    let mut allowed: Vec<String> = Vec::new();
    for filter in values(&unit(ROLES[0]), "SystemCallFilter") {
        for name in filter.trim_start_matches('~').split(' ') {
            let names = expand(&[name.to_owned()], &set);
            match filter.starts_with('~') {
                true => allowed.retain(|allowed| !names.contains(allowed)),
                false => allowed.extend(names),
            }
        }
    }
    let needed = [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "epoll_wait",
        "accept4",
        "sendfile",
        "memfd_create",
        "sched_setaffinity",
        "fallocate",
        "eventfd2",
        "timerfd_settime",
        "prlimit64",
        "adjtimex",
        "clock_adjtime",
    ];
    for call in needed {
        assert!(allowed.iter().any(|allowed| allowed == call), "{call} is not allowed");
    }
    assert!(!allowed.iter().any(|allowed| allowed == "settimeofday" || allowed == "mount"));
}

#[test]
fn what_units_run_is_what_the_program_takes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.toml"), "").unwrap();
    for role in ROLES {
        let unit = unit(role);
        let (start, check) = (value(&unit, "ExecStart"), value(&unit, "ExecStartPre"));
        let flags = start.strip_prefix("/usr/bin/fanfare ").unwrap();
        assert_eq!(check, format!("-/usr/bin/fanfare check {flags}"), "{role}: the check is of the same settings");
        let reload = values(&unit, "ExecReload");
        assert_eq!(reload[0], format!("{start} --print-config"), "{role}: so is what is checked before a reload");
        assert_eq!(reload[1..], ["/bin/sh -c 'kill -HUP ${MAINPID}'"], "{role}");
        let line = flags
            .replace("${INTERNAL_HOST}", "127.0.0.1")
            .replace("%i", "8101")
            .replace("/etc/fanfare/fanfare.toml", "empty.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(line.split(' '))
            .arg("--print-config")
            .env_clear()
            .envs([
                ("FANFARE_DISPATCHERS", "http://127.0.0.1:1"),
                ("FANFARE_KV", "redis://127.0.0.1"),
                ("FANFARE_DB", "sqlite:f.db"),
            ])
            .envs((role == "fanfare-all").then_some(("FANFARE_KV", "memory")))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
        let name = role.trim_start_matches("fanfare-").trim_end_matches('@');
        assert!(text.starts_with(&format!("# fanfare {name}\n")), "{role}: {text}");
        assert_eq!(text.contains("internal = \"127.0.0.1:8101\""), role.ends_with('@'), "{role}");
    }
}

#[test]
fn a_bad_setting_is_not_tried_for_ever_and_any_other_end_is_followed_by_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "drain = \"soon\"\n").unwrap();
    for role in ROLES {
        let unit = unit(role);
        assert_eq!(value(&unit, "Restart"), "always", "{role}");
        // systemd looks at the status of ExecStart's process alone. A step before it that may fail would be started again
        // with it, whatever it exits with.
        for step in ["ExecStartPre", "ExecCondition"] {
            assert!(values(&unit, step).iter().all(|step| step.starts_with('-')), "{role}: {step}");
        }
        let command = value(&unit, "ExecStart").strip_prefix("/usr/bin/fanfare ").unwrap();
        let command = command.replace("/etc/fanfare/fanfare.toml", bad.to_str().unwrap());
        let command = command.replace("${INTERNAL_HOST}", "127.0.0.1").replace("%i", "8101");
        let status = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(command.split(' ')).env_clear().output();
        let status = status.unwrap().status.code().expect("it exits");
        let prevented: Vec<i32> =
            value(&unit, "RestartPreventExitStatus").split(' ').map(|status| status.parse().unwrap()).collect();
        assert!(prevented.contains(&status), "{role}: {status}");
    }
}

#[test]
fn stopping_takes_longer_than_draining() {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).arg("--print-config").env_clear().output().unwrap();
    let settings: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let drain = humantime::parse_duration(settings["drain"].as_str().unwrap()).unwrap();
    for role in ROLES {
        let stop = humantime::parse_duration(value(&unit(role), "TimeoutStopSec")).unwrap();
        assert!(stop >= drain + Duration::from_secs(10), "{role}: {stop:?}");
    }
}

/// The lines of the example that are settings, without their `#`.
fn examples() -> Vec<(String, String)> {
    let text = fs::read_to_string(here("tuning/fanfare.toml")).unwrap();
    let setting = |line: &str| {
        let (name, value) = line.strip_prefix('#')?.split_once(" = ")?;
        (!name.starts_with(' ')).then(|| (name.to_owned(), value.to_owned()))
    };
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "all of it is commented out");
    text.lines().filter_map(setting).collect()
}

#[test]
fn the_example_has_every_setting_with_its_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).arg("--print-config").env_clear().output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let defaults: BTreeMap<&str, &str> =
        printed.lines().filter_map(|line| line.strip_suffix("  # default")?.split_once(" = ")).collect();
    let unset: Vec<&str> =
        printed.lines().filter_map(|line| line.strip_prefix("# ")?.strip_suffix(" is not set")).collect();
    assert!(defaults.len() > 20 && unset.len() > 5, "{printed}");
    let examples = examples();
    for (name, value) in &defaults {
        let shown: Vec<&String> = examples.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
        assert_eq!(shown, [value], "{name}");
    }
    for name in &unset {
        let shown =
            examples.iter().filter(|(other, _)| other == name || other.starts_with(&format!("{name}."))).count();
        assert_eq!(shown, 1, "{name}");
    }
    assert_eq!(examples.len(), defaults.len() + unset.len(), "and nothing else");
}

#[test]
fn the_example_is_taken_as_it_is_and_with_every_line_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let print = |file: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["--print-config", "--config"])
            .arg(file)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!print(&here("tuning/fanfare.toml")).contains("# file "), "as it is it changes nothing");
    let secret = folder.path().join("secret");
    fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let signing = folder.path().join("signing");
    fs::write(&signing, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    let lines: Vec<String> = examples()
        .into_iter()
        // Keys come from a file or from an issuer.
        .filter(|(name, _)| name != "jwt_key_url")
        .map(|(name, value)| match value.contains("\"/etc/fanfare/") {
            // It signs.
            true if name == "authorize_secret_file" => format!("{name} = {:?}\n", signing.display().to_string()),
            true => format!("{name} = {:?}\n", secret.display().to_string()),
            // A file has no password.
            false if name == "db" => "db = \"postgres://fanfare@127.0.0.1/fanfare\"\n".to_owned(),
            // Peers must be told this data center's own name.
            false if name == "dc" => "dc = \"here\"\n".to_owned(),
            false => format!("{name} = {value}\n"),
        })
        .collect();
    let file = folder.path().join("all.toml");
    fs::write(&file, lines.concat()).unwrap();
    let printed = print(&file);
    for line in printed.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("# file "), "{line}");
    }
}

/// What the package installs, as Cargo.toml says it: source and place.
fn assets() -> Vec<(String, String)> {
    let manifest: toml::Table = fs::read_to_string(here("Cargo.toml")).unwrap().parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    assets.iter().map(|asset| (text(&asset[0]), text(&asset[1]))).collect()
}

#[test]
fn everything_that_operators_are_told_of_is_in_the_package() {
    let assets = assets();
    let is = |source: &str, path: &str| match source.rsplit_once('*') {
        None => source == path,
        Some((start, end)) => {
            path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some_and(|name| !name.contains('/'))
        }
    };
    let is_packed = |path: &str| assets.iter().any(|(source, _)| is(source, path));
    // Beside the pages that are read, in the same order of folders.
    let is_among_pages = |path: &str| {
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let place = format!("usr/share/doc/fanfare/{folder}");
        assets.iter().any(|(source, at)| is(source, path) && *at == place)
    };
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    for folder in ["tuning", "docs"] {
        files(&here(folder), &mut found);
    }
    assert!(found.len() > 20);
    let relative = |path: &PathBuf| path.strip_prefix(here("")).unwrap().to_str().unwrap().to_owned();
    let found: Vec<String> = found.iter().map(relative).collect();
    for path in &found {
        // Those are the package's own scripts.
        if !path.starts_with("tuning/debian/") {
            assert!(is_packed(path), "{path}");
        }
    }
    // And links of the pages lead somewhere, here and there.
    for page in found.iter().filter(|page| page.starts_with("docs/")).map(String::as_str).chain(["README.md"]) {
        let text = fs::read_to_string(here(page)).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let mut target: Vec<&str> = page.split('/').collect();
            target.pop();
            for part in path.split('/') {
                match part {
                    ".." => _ = target.pop(),
                    part => target.push(part),
                }
            }
            let target = target.join("/");
            assert!(here(&target).exists() && is_among_pages(&target), "{page}: {link}");
        }
    }
}

#[test]
fn other_programs_end_before_a_node_that_fills_the_memory() {
    for role in ROLES {
        let unit = unit(role);
        let scores = values(&unit, "OOMScoreAdjust");
        assert!(scores.iter().all(|score| !score.starts_with('-')), "{role}: {scores:?}");
        assert!(unit.contains("#MemoryMax="), "{role} says how its memory is bounded");
    }
}
