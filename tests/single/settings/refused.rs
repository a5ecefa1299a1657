//! Settings that must end the process with status 2, or be warned of, with a message to act on.

use super::place::{CLUSTER, Place, has};

#[test]
fn a_file_with_a_slip_is_refused_with_key_and_line() {
    let here = Place::new();
    for (text, parts) in [
        ("\nlistne = \"x\"\n", &["listne", "line 2", "did you mean listen?"][..]),
        ("cluster-secret-file = \"x\"\n", &["cluster-secret-file", "did you mean cluster_secret_file?"]),
        ("qqq = 1\n", &["qqq", "known are listen,"]),
        ("dc = \"a\"\ndc = \"b\"\n", &["duplicate key dc", "line 2"]),
        ("dc = \n", &["line 1"]),
        ("listen = 8080\n", &["--listen", "8080", "line 1", "give a string"]),
        ("[events.mercure]\nclass = \"latest\"\n", &["events.mercure.class", "leave it out, or give every"]),
        ("reuse_port = \"true\"\n", &["--reuse-port", "true or false"]),
        ("cors_origin = [1]\n", &["--cors-origin", "array of strings"]),
        ("peer = \"https://x.example\"\n", &["--peer", "[peer]"]),
        ("peer_secret_file.us = [\"a\", \"b\"]\n", &["peer_secret_file.us", "give a string"]),
        ("drain = \"30\"\n", &["--drain \"30\"", "file f.toml line 1", "500ms, 30s or 1m"]),
        (
            "[events.like]\nclass = \"some\"\n",
            &["events.like.class \"some\"", "line 2", "sum, latest, ephemeral or every"],
        ),
        ("[events.typing]\nttl = \"-5s\"\n", &["events.typing.ttl \"-5s\"", "line 2"]),
        ("[events.typing]\nttl = -5\n", &["events.typing.ttl \"-5\"", "duration"]),
        ("[events.typing]\nttl = \"0s\"\n", &["events.typing.ttl", "more than 0s"]),
        ("[events.like]\nttl = \"5s\"\n", &["events.like.ttl", "class sum has none"]),
        ("[events.comment]\nwindow = \"5s\"\n", &["events.comment.window", "class every has none", "class = \"sum\""]),
        ("[events.like]\nwindow = \"11s\"\n", &["events.like.window \"11s\"", "at most 10s", "0s is none"]),
        ("[events.like]\nwindow = 50\n", &["events.like.window", "duration"]),
        ("[events.comment]\nhistory = -1\n", &["events.comment.history \"-1\"", "1 to"]),
        ("[events.comment]\nhistory = \"many\"\n", &["events.comment.history", "number"]),
        ("[events.comment]\nmax_age = \"31days\"\n", &["events.comment.max_age", "30days"]),
        ("[events.like]\npace = \"10/s\"\n", &["events.like.pace", "class sum has none", "class = \"every\""]),
        ("[events.comment]\npace = \"0/s\"\n", &["events.comment.pace \"0/s\"", "10/s", "leave it out"]),
        ("[events.comment]\npace = 10\n", &["events.comment.pace", "10/s"]),
        ("[events.like]\nclas = \"sum\"\n", &["events.like.clas", "line 2", "did you mean class?"]),
        ("[events.like]\n[events.like]\n", &["like", "line 2"]),
        ("max_connections = 1.5\n", &["--max-connections", "line 1", "a whole number"]),
        ("max_publishes = -1\n", &["--max-publishes \"-1\"", "0 for no limit"]),
        ("max_topics = 101\n", &["--max-topics \"101\"", "1 to 100"]),
        ("max_memory = 8\n", &["--max-memory", "give a string"]),
        ("max_memory = \"8GB\"\n", &["--max-memory \"8GB\"", "8GiB", "50%"]),
        ("max_turn = \"1h\"\n", &["--max-turn \"1h\"", "0s for no limit"]),
        ("events.like = \"sum\"\n", &["events.like", "[events.like]"]),
        ("[events.\"\"]\nclass = \"sum\"\n", &["events", "type's name"]),
    ] {
        here.put("f.toml", text);
        let message = here.refused("--config f.toml", &[]);
        has(&message, parts);
        has(&message, &["f.toml"]);
    }
    here.refuses("--config none.toml", &["--config none.toml", "No such file", "flag --config"]);
}

#[test]
fn a_role_that_lacks_what_it_needs_says_so() {
    let here = Place::new();
    here.refuses("frontend", &["--dispatchers is not set", "a frontend needs it", "http://10.0.0.5:8081"]);
    here.refuses("backend --kv redis://h --db sqlite:x.db", &["--dispatchers", "a backend needs it"]);
    here.refuses("dispatcher", &["--kv is not set", "a dispatcher needs it", "redis://HOST"]);
    here.refuses("backend --dispatchers http://h --db sqlite:x.db", &["--kv", "a backend needs it"]);
    here.refuses("backend --dispatchers http://h --kv redis://h", &["--db", "a backend needs it", "postgres://"]);
    for role in ["frontend", "dispatcher", "backend"] {
        let line = format!("{role} --kv memory --db sqlite:x.db --dispatchers http://h");
        here.refuses(&line, &["--kv \"memory\" (flag --kv)", "`all` only", role]);
    }
    here.refuses("--reactions= ", &["--reactions"]);
    here.refuses("--auth jwt", &["--jwt-key-file is not set", "--auth jwt needs it"]);
    for role in ["frontend", "dispatcher", "backend"] {
        let (toml, _) = here.print(&format!("{role} {CLUSTER}"), &[]);
        has(&toml, &[&format!("# fanfare {role}\n")]);
    }
}

#[test]
fn the_table_of_roles_keeps_from_one_what_it_needs() {
    let here = Place::new();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/first-steps.md")).unwrap();
    let given = [("--dispatchers", "http://h"), ("--kv", "redis://h"), ("--db", "sqlite:x.db")];
    for role in ["frontend", "dispatcher", "backend"] {
        let row = page.lines().find(|line| line.starts_with(&format!("| `fanfare {role}`"))).expect("a row");
        for (without, _) in given {
            let others: Vec<String> = given
                .iter()
                .filter(|(name, _)| *name != without)
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            let code = here.run(&format!("{role} {} --print-config", others.join(" ")), &[]).status.code();
            let is_needed = code == Some(2);
            assert!(is_needed || code == Some(0), "{role} without {without}: {code:?}");
            assert_eq!(row.contains(&format!("`{without}`")), is_needed, "{role} {without}: {row}");
        }
    }
}

#[test]
fn a_bad_value_is_named_with_its_source_and_what_would_do() {
    let here = Place::new();
    for (line, parts) in [
        ("--listen localhost:80", &["--listen \"localhost:80\" (flag --listen)", "127.0.0.1:8080"][..]),
        ("--internal 127.0.0.1:99999", &["--internal \"127.0.0.1:99999\"", "port"]),
        ("--advertise 10.0.0.1", &["--advertise", "http://10.0.0.5:8081"]),
        ("--cores 0", &["--cores \"0\"", "a count such as 2"]),
        ("--reuse-port=maybe", &["--reuse-port \"maybe\"", "true or false"]),
        ("--drain 2h", &["--drain \"2h\"", "an hour"]),
        ("--kv memcached://h", &["--kv \"memcached://h\"", "redis://"]),
        ("--db sqlite::memory:", &["--db \"sqlite::memory:\"", "on disk"]),
        ("--dispatchers http://h,http://h/", &["--dispatchers", "given twice"]),
        ("--dc EU", &["--dc \"EU\"", "a-z"]),
        ("--peer eu", &["--peer \"eu\"", "NAME=VALUE", "eu=https://"]),
        ("--dc a --peer eu=https://x --peer eu=https://y", &["--peer", "given twice"]),
        ("--peer-secret-file eu=secret", &["--peer-secret-file eu", "no --peer has this name"]),
        ("--cluster-secret-file none", &["--cluster-secret-file \"none\"", "No such file"]),
        ("--cluster-secret-file empty", &["--cluster-secret-file \"empty\"", "empty"]),
        ("--auth basic", &["--auth \"basic\"", "none or jwt"]),
        ("--auth jwt --jwt-key-file none", &["--jwt-key-file \"none\"", "No such file"]),
        ("--auth jwt --jwt-key-url ftp://id.example", &["--jwt-key-url", "https://id.example"]),
        ("--auth jwt --jwt-key-file key --jwt-key-url https://id.example", &["--jwt-key-url", "one of the two"]),
        ("--auth jwt --jwt-key-file key --jwt-max-life 0s", &["--jwt-max-life", "3653d"]),
        ("--jwt-cookie a;b", &["--jwt-cookie", "fanfare_token"]),
        ("--cors-origin example.com", &["--cors-origin \"example.com\"", "https://example.com"]),
        ("--cors-origin *,https://a.example", &["--cors-origin", "* alone"]),
        ("--auth jwt --jwt-key-file key --jwt-cookie t --cors-origin *", &["--cors-origin \"*\"", "name the origins"]),
        ("--trusted-proxy proxy", &["--trusted-proxy \"proxy\"", "10.0.0.0/8"]),
        ("--log inof", &["--log \"inof\"", "\"inof\" is no level", "off, error, warn, info, debug, trace"]),
        ("--log fanfare=debug,inof", &["\"inof\" is no level"]),
        ("--log fanfare=loud", &["--log \"fanfare=loud\"", "fanfare=debug"]),
        ("--reactions like,like", &["--reactions \"like\"", "given twice"]),
        ("--internal 127.0.0.1:8080", &["--internal \"127.0.0.1:8080\"", "--listen 127.0.0.1:8080"]),
    ] {
        here.refuses(line, parts);
    }
    let message = here.refused("", &[("FANFARE_LISTEN", "nonsense")]);
    has(&message, &["--listen \"nonsense\" (environment FANFARE_LISTEN)"]);
}

#[test]
fn an_internal_listener_that_others_reach_needs_a_secret() {
    let here = Place::new();
    here.refuses("--internal 0.0.0.0:8081", &["--internal \"0.0.0.0:8081\"", "--cluster-secret-file"]);
    here.refuses("--internal [::]:8081", &["--internal", "--cluster-secret-file"]);
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
    here.refuses("--dc eu --peer us=http://10.0.0.1:8081", &["--peer us", "http://10.0.0.1:8081", "--peer-insecure"]);
    here.refuses("--dc eu --peer us=https://u.example,http://10.0.0.1", &["--peer us", "--peer-insecure"]);
    here.refuses("--dc eu --peer us=http://10.0.0.1 --peer-insecure=false", &["--peer-insecure"]);
    here.print("--dc eu --peer us=http://10.0.0.1 --peer-insecure --peer-secret-file us=secret", &[]);
    here.print("--dc eu --peer us=http://127.0.0.2:8081 --peer ap=http://localhost:1", &[]);
    for peer in ["https://u.example", "https://127.0.0.1,https://u.example", "http://10.0.0.1 --peer-insecure"] {
        here.refuses(
            &format!("--dc eu --peer us={peer}"),
            &["--peer us", "without a secret", "--peer-secret-file us=PATH"],
        );
    }
    let reached = "--dc eu --peer us=http://127.0.0.1 --internal 0.0.0.0:0 --cluster-secret-file secret";
    here.refuses(reached, &["--peer us", "without a secret"]);
    here.print(&format!("{reached} --peer-secret-file us=secret"), &[]);
    here.refuses("--dc eu --peer eu=https://x.example", &["--peer eu", "data center eu itself"]);
    here.refuses("--peer eu=https://x.example", &["--dc is not set"]);
}

#[test]
fn open_doors_are_warned_of() {
    let here = Place::new();
    let warned = |line: &str| here.print(line, &[]).1;
    has(&warned("--listen 0.0.0.0:0"), &["--auth none", "0.0.0.0:0"]);
    has(&warned("--jwt-key-file key"), &["--jwt-key-file does nothing without --auth jwt"]);
    has(&warned("--mercure-anonymous"), &["--mercure-anonymous does nothing without --auth jwt"]);
    assert_eq!(warned("--listen 0.0.0.0:0 --auth jwt --jwt-key-file key"), "");
    has(&warned("--auth jwt --jwt-key-url http://id.example"), &["--jwt-key-url http://id.example", "https://"]);
    assert_eq!(warned("--auth jwt --jwt-key-url http://127.0.0.1:1/jwks --jwt-issuer https://id.example"), "");
    assert_eq!(warned("--listen 127.0.0.2:0"), "");
    assert_eq!(warned("--listen [::ffff:127.0.0.1]:0"), "");
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
