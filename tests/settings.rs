//! Drives the built program: which layer of settings wins, what `--print-config` shows, and every
//! setting that must end the process with status 2 and a message to act on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with what settings point to, and the program to run in it with no environment but given.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("secret", "0123456789abcdef0123456789abcdef\n");
        put("short", "abc\n");
        put("empty", "\n");
        put("key", "a key for tokens that nobody else knows\n");
        Place { folder }
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, line: &str, environment: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// What `--print-config` prints, and the warnings.
    fn print(&self, line: &str, environment: &[(&str, &str)]) -> (String, String) {
        let output = self.run(&format!("{line} --print-config"), environment);
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "fanfare {line}: {warnings}");
        (String::from_utf8(output.stdout).unwrap(), warnings)
    }

    /// The message of a run that must exit 2 with nothing on standard output.
    fn refused(&self, line: &str, environment: &[(&str, &str)]) -> String {
        let output = self.run(line, environment);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "fanfare {line}: {message}");
        assert!(output.stdout.is_empty(), "fanfare {line}");
        message
    }

    #[track_caller]
    fn refuses(&self, line: &str, parts: &[&str]) {
        has(&self.refused(line, &[]), parts);
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

const CLUSTER: &str = "--kv redis://127.0.0.1 --db sqlite:x.db --dispatchers http://127.0.0.1:8081";

#[test]
fn a_later_layer_wins_and_each_value_says_where_it_came_from() {
    let here = Place::new();
    let file = "# four settings\nlisten = \"127.0.0.1:1111\"\ninternal = \"127.0.0.1:2222\"\ndrain = \"1m\"\ndc = \"file\"\n";
    here.put("fanfare.toml", file);
    let environment = [
        ("FANFARE_INTERNAL", "127.0.0.1:3333"),
        ("FANFARE_DRAIN", "2m"),
        ("FANFARE_DC", ""),
    ];
    let (toml, warnings) = here.print("--config fanfare.toml --drain 500ms", &environment);
    has(
        &toml,
        &[
            "cores = \"all\"  # default\n",
            "listen = \"127.0.0.1:1111\"  # file fanfare.toml line 2\n",
            "internal = \"127.0.0.1:3333\"  # environment FANFARE_INTERNAL\n",
            "drain = \"500ms\"  # flag --drain\n",
            "dc = \"file\"  # file fanfare.toml line 5\n",
        ],
    );
    assert_eq!(warnings, "");
}

#[test]
fn the_file_may_be_named_by_the_environment_and_a_flag_wins() {
    let here = Place::new();
    here.put("one.toml", "dc = \"one\"\n");
    here.put("two.toml", "dc = \"two\"\n");
    let environment = [("FANFARE_CONFIG", "one.toml")];
    has(
        &here.print("", &environment).0,
        &["dc = \"one\"  # file one.toml line 1"],
    );
    has(
        &here.print("--config two.toml", &environment).0,
        &["dc = \"two\"  # file two.toml line 1"],
    );
    let message = here.refused("", &[("FANFARE_CONFIG", "none.toml")]);
    has(&message, &["none.toml", "environment FANFARE_CONFIG"]);
}

#[test]
fn flags_work_with_and_without_the_word_all_and_before_and_after_it() {
    let here = Place::new();
    for line in ["--dc x", "all --dc x", "--dc x all", "--dc y all --dc x"] {
        let (toml, _) = here.print(line, &[]);
        has(&toml, &["# fanfare all\n", "dc = \"x\"  # flag --dc\n"]);
    }
    has(
        &here.print(&format!("--dc x frontend {CLUSTER}"), &[]).0,
        &["# fanfare frontend\n", "dc = \"x\""],
    );
    here.refuses("--dc x subscribe live:42", &["--dc", "subscribe"]);
}

#[test]
fn printed_settings_are_toml_that_means_the_same() {
    let here = Place::new();
    let path = here.put(
        "odd name.toml",
        "dc = \"eu-1\"\ncores = 2\nreuse_port = true\ncors_origin = [\"https://a.example\", \"http://b.example:81\"]\n\
         [peer]\nus-1 = [\"https://u.example\", \"https://v.example:8081\"]\nap = \"https://w.example,https://x.example\"\n\
         [peer_secret_file]\nap = \"secret\"\n\
         [events.like]\nclass = \"every\"\nhistory = 7\n[events.\"odd type.\"]\nttl = \"1m 30s\"\n",
    );
    let run = |path: &Path, name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args([
                "--print-config",
                "--trusted-proxy",
                "10.0.0.0/8,::1",
                "--config",
            ])
            .arg(path)
            .current_dir(here.folder.path())
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run(&path, "as written");
    let table: toml::Table = first.parse().unwrap();
    assert_eq!(table["cores"].as_str(), Some("2"));
    assert_eq!(table["reuse_port"].as_bool(), Some(true));
    assert_eq!(table["peer"]["us-1"].as_array().unwrap().len(), 2);
    assert_eq!(table["peer"]["ap"][1].as_str(), Some("https://x.example"));
    assert_eq!(table["peer_secret_file"]["ap"].as_str(), Some("secret"));
    assert_eq!(table["events"]["like"]["history"].as_integer(), Some(7));
    assert_eq!(table["events"]["like"]["max_age"].as_str(), Some("1h"));
    assert_eq!(
        table["events"]["odd type."]["class"].as_str(),
        Some("ephemeral")
    );
    assert_eq!(table["events"]["odd type."]["ttl"].as_str(), Some("1m 30s"));
    has(
        &first,
        &[
            "# advertise is not set\n",
            "events.like.max_age = \"1h\"  # default\n",
        ],
    );
    for line in first.lines() {
        assert!(
            line.starts_with("# ") || line.contains("  # "),
            "no source in {line:?}"
        );
    }
    let again: toml::Table = run(&here.put("again.toml", &first), "as printed")
        .parse()
        .unwrap();
    assert_eq!(table, again);
}

#[test]
fn what_each_role_prints_it_also_reads() {
    let here = Place::new();
    for line in [
        "all",
        "frontend --dispatchers http://127.0.0.1:8081",
        "dispatcher --kv redis://127.0.0.1",
        "backend --kv redis://127.0.0.1 --db postgres://127.0.0.1/fanfare --dispatchers http://127.0.0.1:8081",
    ] {
        let role = line.split(' ').next().unwrap();
        let (first, _) = here.print(line, &[]);
        here.put("again.toml", &first);
        let (again, _) = here.print(&format!("{role} --config again.toml"), &[]);
        assert_eq!(
            first.parse::<toml::Table>().unwrap(),
            again.parse::<toml::Table>().unwrap()
        );
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let toml: toml::Table = Place::new().print("", &[]).0.parse().unwrap();
    for (name, value) in [
        ("listen", "127.0.0.1:8080"),
        ("internal", "127.0.0.1:8081"),
        ("kv", "memory"),
        ("db", "sqlite:fanfare.db"),
        ("auth", "none"),
        ("drain", "30s"),
        ("cores", "all"),
    ] {
        assert_eq!(toml[name].as_str(), Some(value), "{name}");
    }
    let reactions: Vec<&str> = toml["reactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(
        reactions,
        [
            "like",
            "celebrate",
            "support",
            "love",
            "insightful",
            "funny"
        ]
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let here = Place::new();
    let shown = here.print(
        "all --kv redis://ana:hunter2@127.0.0.1 --db postgres://ana@127.0.0.1/f?password=hunter2 --cluster-secret-file secret --auth jwt --jwt-key-file key",
        &[],
    );
    has(
        &shown.0,
        &[
            "kv = \"redis://ana:***@127.0.0.1\"  # flag --kv",
            "password=***",
            "cluster_secret_file = \"secret\"",
            "jwt_key_file = \"key\"",
        ],
    );
    here.put("bad.toml", "kv = \"ridis://:hunter2@h\"\n");
    here.put("list.toml", "kv = [\"redis://:hunter2@h\"]\n");
    here.put("broken.toml", "kv = \"redis://:hunter2@h\n");
    let texts = [
        format!("{}{}", shown.0, shown.1),
        here.refused("--kv redis://ana:hunter2@:x", &[]),
        here.refused("--db mysql://ana:hunter2@h/f", &[]),
        here.refused("--db postgres_password=hunter2", &[]),
        here.refused("--dispatchers http://ana:hunter2@h", &[]),
        here.refused("--peer http://ana:hunter2@h", &[]),
        here.refused("--config bad.toml", &[]),
        here.refused("--config list.toml", &[]),
        here.refused("--config broken.toml", &[]),
        here.refused("", &[("FANFARE_KV", "redos://:hunter2@h")]),
    ];
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            !text.contains("0123456789abcdef") && !text.contains("nobody else"),
            "{text}"
        );
    }
}

#[test]
fn the_environment_takes_lists_and_names_and_unknown_names_are_warned_of() {
    let here = Place::new();
    let environment = [
        (
            "FANFARE_CORS_ORIGIN",
            "https://a.example, https://b.example",
        ),
        (
            "FANFARE_PEER",
            "us=https://u.example,https://v.example;ap=https://w.example",
        ),
        ("FANFARE_DC", "eu"),
        ("FANFARE_LOG", "fanfare=debug"),
        ("FANFARE_REUSE_PORT", "1"),
        ("FANFARE_TOKEN", "for-clients"),
        ("FANFARE_LISTNE", "127.0.0.1:1"),
        ("FANFARE_ZZZ", "1"),
    ];
    let (toml, warnings) = here.print("", &environment);
    has(
        &toml,
        &[
            "cors_origin = [\"https://a.example\", \"https://b.example\"]  # environment FANFARE_CORS_ORIGIN",
            "peer.ap = [\"https://w.example\"]  # environment FANFARE_PEER",
            "peer.us = [\"https://u.example\", \"https://v.example\"]  # environment FANFARE_PEER",
            "log = \"fanfare=debug\"  # environment FANFARE_LOG",
            "reuse_port = true  # environment FANFARE_REUSE_PORT",
        ],
    );
    has(
        &warnings,
        &[
            "FANFARE_LISTNE is not a setting; did you mean FANFARE_LISTEN?",
            "FANFARE_ZZZ is not a setting; known are",
        ],
    );
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
}

#[test]
fn peers_of_several_layers_join_by_name() {
    let here = Place::new();
    here.put(
        "f.toml",
        "dc = \"eu\"\npeer.us = [\"https://old.example\"]\npeer.ap = [\"https://w.example\"]\n",
    );
    let (toml, _) = here.print(
        "--config f.toml --peer us=https://new.example",
        &[],
    );
    has(
        &toml,
        &[
            "peer.us = [\"https://new.example\"]  # flag --peer",
            "peer.ap = [\"https://w.example\"]  # file f.toml line 3",
        ],
    );
}

#[test]
fn a_file_with_a_slip_is_refused_with_key_and_line() {
    let here = Place::new();
    for (text, parts) in [
        (
            "\nlistne = \"x\"\n",
            &["listne", "line 2", "did you mean listen?"][..],
        ),
        (
            "cluster-secret-file = \"x\"\n",
            &["cluster-secret-file", "did you mean cluster_secret_file?"],
        ),
        ("qqq = 1\n", &["qqq", "known are listen,"]),
        ("dc = \"a\"\ndc = \"b\"\n", &["duplicate key dc", "line 2"]),
        ("dc = \n", &["line 1"]),
        (
            "listen = 8080\n",
            &["--listen", "8080", "line 1", "give a string"],
        ),
        (
            "reuse_port = \"true\"\n",
            &["--reuse-port", "true or false"],
        ),
        (
            "cors_origin = [1]\n",
            &["--cors-origin", "array of strings"],
        ),
        ("peer = \"https://x.example\"\n", &["--peer", "[peer]"]),
        (
            "peer_secret_file.us = [\"a\", \"b\"]\n",
            &["peer_secret_file.us", "give a string"],
        ),
        (
            "drain = \"30\"\n",
            &["--drain \"30\"", "file f.toml line 1", "500ms, 30s or 1m"],
        ),
        (
            "[events.like]\nclass = \"some\"\n",
            &[
                "events.like.class \"some\"",
                "line 2",
                "sum, latest, ephemeral or every",
            ],
        ),
        (
            "[events.typing]\nttl = \"-5s\"\n",
            &["events.typing.ttl \"-5s\"", "line 2"],
        ),
        (
            "[events.typing]\nttl = -5\n",
            &["events.typing.ttl \"-5\"", "duration"],
        ),
        (
            "[events.typing]\nttl = \"0s\"\n",
            &["events.typing.ttl", "more than 0s"],
        ),
        (
            "[events.like]\nttl = \"5s\"\n",
            &["events.like.ttl", "class sum has none"],
        ),
        (
            "[events.comment]\nhistory = -1\n",
            &["events.comment.history \"-1\"", "1 to"],
        ),
        (
            "[events.comment]\nhistory = \"many\"\n",
            &["events.comment.history", "number"],
        ),
        (
            "[events.comment]\nmax_age = \"31days\"\n",
            &["events.comment.max_age", "30days"],
        ),
        (
            "[events.like]\nclas = \"sum\"\n",
            &["events.like.clas", "line 2", "did you mean class?"],
        ),
        ("[events.like]\n[events.like]\n", &["like", "line 2"]),
        ("events.like = \"sum\"\n", &["events.like", "[events.like]"]),
        (
            "[events.\"\"]\nclass = \"sum\"\n",
            &["events", "type's name"],
        ),
    ] {
        here.put("f.toml", text);
        let message = here.refused("--config f.toml", &[]);
        has(&message, parts);
        has(&message, &["f.toml"]);
    }
    here.refuses(
        "--config none.toml",
        &["--config none.toml", "No such file", "flag --config"],
    );
}

#[test]
fn a_role_that_lacks_what_it_needs_says_so() {
    let here = Place::new();
    here.refuses(
        "frontend",
        &[
            "--dispatchers is not set",
            "a frontend needs it",
            "http://10.0.0.5:8081",
        ],
    );
    here.refuses(
        "backend --kv redis://h --db sqlite:x.db",
        &["--dispatchers", "a backend needs it"],
    );
    here.refuses(
        "dispatcher",
        &["--kv is not set", "a dispatcher needs it", "redis://HOST"],
    );
    here.refuses(
        "backend --dispatchers http://h --db sqlite:x.db",
        &["--kv", "a backend needs it"],
    );
    here.refuses(
        "backend --dispatchers http://h --kv redis://h",
        &["--db", "a backend needs it", "postgres://"],
    );
    for role in ["frontend", "dispatcher", "backend"] {
        let line = format!("{role} --kv memory --db sqlite:x.db --dispatchers http://h");
        here.refuses(&line, &["--kv \"memory\" (flag --kv)", "`all` only", role]);
    }
    here.refuses("--reactions= ", &["--reactions"]);
    here.refuses(
        "--auth jwt",
        &["--jwt-key-file is not set", "--auth jwt needs it"],
    );
    for role in ["frontend", "dispatcher", "backend"] {
        let (toml, _) = here.print(&format!("{role} {CLUSTER}"), &[]);
        has(&toml, &[&format!("# fanfare {role}\n")]);
    }
}

#[test]
fn a_bad_value_is_named_with_its_source_and_what_would_do() {
    let here = Place::new();
    for (line, parts) in [
        (
            "--listen localhost:80",
            &[
                "--listen \"localhost:80\" (flag --listen)",
                "127.0.0.1:8080",
            ][..],
        ),
        (
            "--internal 127.0.0.1:99999",
            &["--internal \"127.0.0.1:99999\"", "port"],
        ),
        (
            "--advertise 10.0.0.1",
            &["--advertise", "http://10.0.0.5:8081"],
        ),
        ("--cores 0", &["--cores \"0\"", "a count such as 2"]),
        (
            "--reuse-port=maybe",
            &["--reuse-port \"maybe\"", "true or false"],
        ),
        ("--drain 2h", &["--drain \"2h\"", "an hour"]),
        (
            "--kv memcached://h",
            &["--kv \"memcached://h\"", "redis://"],
        ),
        (
            "--db sqlite::memory:",
            &["--db \"sqlite::memory:\"", "on disk"],
        ),
        (
            "--dispatchers http://h,http://h/",
            &["--dispatchers", "given twice"],
        ),
        ("--dc EU", &["--dc \"EU\"", "a-z"]),
        ("--peer eu", &["--peer \"eu\"", "NAME=VALUE", "eu=https://"]),
        (
            "--dc a --peer eu=https://x --peer eu=https://y",
            &["--peer", "given twice"],
        ),
        (
            "--peer-secret-file eu=secret",
            &["--peer-secret-file eu", "no --peer has this name"],
        ),
        (
            "--cluster-secret-file none",
            &["--cluster-secret-file \"none\"", "No such file"],
        ),
        (
            "--cluster-secret-file empty",
            &["--cluster-secret-file \"empty\"", "empty"],
        ),
        ("--auth basic", &["--auth \"basic\"", "none or jwt"]),
        (
            "--auth jwt --jwt-key-file none",
            &["--jwt-key-file \"none\"", "No such file"],
        ),
        ("--jwt-cookie a;b", &["--jwt-cookie", "fanfare_token"]),
        (
            "--cors-origin example.com",
            &["--cors-origin \"example.com\"", "https://example.com"],
        ),
        (
            "--cors-origin *,https://a.example",
            &["--cors-origin", "* alone"],
        ),
        (
            "--auth jwt --jwt-key-file key --jwt-cookie t --cors-origin *",
            &["--cors-origin \"*\"", "name the origins"],
        ),
        (
            "--trusted-proxy proxy",
            &["--trusted-proxy \"proxy\"", "10.0.0.0/8"],
        ),
        (
            "--log fanfare=loud",
            &["--log \"fanfare=loud\"", "fanfare=debug"],
        ),
        (
            "--reactions like,like",
            &["--reactions \"like\"", "given twice"],
        ),
        (
            "--internal 127.0.0.1:8080",
            &["--internal \"127.0.0.1:8080\"", "--listen 127.0.0.1:8080"],
        ),
    ] {
        here.refuses(line, parts);
    }
    let message = here.refused("", &[("FANFARE_LISTEN", "nonsense")]);
    has(
        &message,
        &["--listen \"nonsense\" (environment FANFARE_LISTEN)"],
    );
}

#[test]
fn an_internal_listener_that_others_reach_needs_a_secret() {
    let here = Place::new();
    here.refuses(
        "--internal 0.0.0.0:8081",
        &["--internal \"0.0.0.0:8081\"", "--cluster-secret-file"],
    );
    here.refuses(
        "--internal [::]:8081",
        &["--internal", "--cluster-secret-file"],
    );
    here.print("--internal 0.0.0.0:8081 --cluster-secret-file secret", &[]);
    here.print("--internal 127.8.9.10:0", &[]);
    here.print("--internal [::1]:8081", &[]);
    let (_, warnings) = here.print("--internal 10.0.0.1:8081 --cluster-secret-file short", &[]);
    has(&warnings, &["--cluster-secret-file", "guessed"]);
    let line = format!("frontend {CLUSTER} --internal 0.0.0.0:8081 --cluster-secret-file secret");
    here.refuses(&line, &["--internal", "--advertise"]);
    here.print(&format!("{line} --advertise http://10.0.0.1:8081"), &[]);
}

#[test]
fn a_plain_http_peer_beyond_this_box_must_be_asked_for() {
    let here = Place::new();
    here.refuses(
        "--dc eu --peer us=http://10.0.0.1:8081",
        &["--peer us", "http://10.0.0.1:8081", "--peer-insecure"],
    );
    here.refuses(
        "--dc eu --peer us=https://u.example,http://10.0.0.1",
        &["--peer us", "--peer-insecure"],
    );
    here.refuses(
        "--dc eu --peer us=http://10.0.0.1 --peer-insecure=false",
        &["--peer-insecure"],
    );
    here.print("--dc eu --peer us=http://10.0.0.1 --peer-insecure", &[]);
    here.print(
        "--dc eu --peer us=http://127.0.0.2:8081 --peer ap=https://10.0.0.1",
        &[],
    );
    here.refuses(
        "--dc eu --peer eu=https://x.example",
        &["--peer eu", "data center eu itself"],
    );
    here.refuses("--peer eu=https://x.example", &["--dc is not set"]);
}

#[test]
fn open_doors_are_warned_of() {
    let here = Place::new();
    let warned = |line: &str| here.print(line, &[]).1;
    has(&warned("--listen 0.0.0.0:0"), &["--auth none", "0.0.0.0:0"]);
    has(
        &warned("--jwt-key-file key"),
        &["--jwt-key-file does nothing without --auth jwt"],
    );
    assert_eq!(
        warned("--listen 0.0.0.0:0 --auth jwt --jwt-key-file key"),
        ""
    );
    assert_eq!(warned("--listen 127.0.0.2:0"), "");
    assert_eq!(warned("--listen [::ffff:127.0.0.1]:0"), "");
}

#[test]
fn help_teaches_every_flag_and_its_default() {
    let here = Place::new();
    let output = here.run("--help", &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    has(
        &help,
        &[
            "Examples:",
            "fanfare subscribe live:42",
            "FANFARE_",
            "[events.wave]",
            "Exit status:",
        ],
    );
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (toml, _) = here.print("", &[]);
    let settings = toml.parse::<toml::Table>().unwrap();
    let unset = toml
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.strip_suffix(" is not set"));
    for name in settings
        .keys()
        .map(String::as_str)
        .chain(unset)
        .filter(|name| *name != "events")
    {
        let flag = format!("--{}", name.replace('_', "-"));
        let at = words
            .find(&format!(" {flag} "))
            .or_else(|| words.find(&format!(" {flag}[")))
            .expect(&flag);
        let text = &words[at..];
        let default = text.find("[default: ").map(|at| &text[at + 10..]).unwrap();
        let shown = match settings.get(name) {
            Some(toml::Value::String(value)) => value.clone(),
            Some(toml::Value::Array(_)) => {
                "like,celebrate,support,love,insightful,funny".to_owned()
            }
            Some(value) => value.to_string(),
            None if name == "advertise" => "the address it listens on".to_owned(),
            None => "none".to_owned(),
        };
        assert!(
            default.starts_with(&shown),
            "{flag}: default {shown:?}, help says {:?}",
            &default[..40.min(default.len())]
        );
    }
}

#[test]
fn a_command_line_that_cannot_be_read_exits_2() {
    let here = Place::new();
    here.refuses("frontnd", &["frontnd", "frontend"]);
    here.refuses("--listne x", &["--listne", "--listen"]);
    here.refuses("subscribe", &["TOPIC"]);
    here.refuses("subscribe live:1 --count 0", &["--count"]);
    here.refuses("publish live:1", &["TYPE"]);
}
