//! Which layer wins, and what `--print-config` and `--help` show.

use super::place::{CLUSTER, Place, has};
use std::path::Path;
use std::process::Command;

#[test]
fn a_later_layer_wins_and_each_value_says_where_it_came_from() {
    let here = Place::new();
    let file =
        "# four settings\nlisten = \"127.0.0.1:1111\"\ninternal = \"127.0.0.1:2222\"\ndrain = \"1m\"\ndc = \"file\"\n";
    here.put("fanfare.toml", file);
    let environment = [("FANFARE_INTERNAL", "127.0.0.1:3333"), ("FANFARE_DRAIN", "2m"), ("FANFARE_DC", "")];
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
    has(&here.print("", &environment).0, &["dc = \"one\"  # file one.toml line 1"]);
    has(&here.print("--config two.toml", &environment).0, &["dc = \"two\"  # file two.toml line 1"]);
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
    has(&here.print(&format!("--dc x frontend {CLUSTER}"), &[]).0, &["# fanfare frontend\n", "dc = \"x\""]);
    here.refuses("--dc x subscribe live:42", &["--dc", "subscribe"]);
}

#[test]
fn printed_settings_are_toml_that_means_the_same() {
    let here = Place::new();
    let path = here.put(
        "odd name.toml",
        "dc = \"eu-1\"\ncores = 2\nreuse_port = true\ncors_origin = [\"https://a.example\", \"http://b.example:81\"]\n\
         [peer]\nus-1 = [\"https://u.example\", \"https://v.example:8081\"]\nap = \"https://w.example,https://x.example\"\n\
         [peer_secret_file]\nap = \"secret\"\nus-1 = \"secret\"\n\
         [events.like]\nclass = \"every\"\nhistory = 7\n[events.\"odd type.\"]\nttl = \"1m 30s\"\n",
    );
    let run = |path: &Path, name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["--print-config", "--trusted-proxy", "10.0.0.0/8,::1", "--config"])
            .arg(path)
            .current_dir(here.folder.path())
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
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
    assert_eq!(table["events"]["odd type."]["class"].as_str(), Some("ephemeral"));
    assert_eq!(table["events"]["odd type."]["ttl"].as_str(), Some("1m 30s"));
    has(&first, &["# advertise is not set\n", "events.like.max_age = \"1h\"  # default\n"]);
    for line in first.lines() {
        assert!(line.starts_with("# ") || line.contains("  # "), "no source in {line:?}");
    }
    let again: toml::Table = run(&here.put("again.toml", &first), "as printed").parse().unwrap();
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
        assert_eq!(first.parse::<toml::Table>().unwrap(), again.parse::<toml::Table>().unwrap());
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
        ("drain", "1s"),
        ("idle_timeout", "75s"),
        ("cores", "all"),
        ("trace_sample", "1000"),
        ("max_connections", "auto"),
        ("max_address_connections", "0"),
        ("max_publishes", "0"),
        ("max_memory", "80%"),
        ("max_backlog", "auto"),
        ("max_turn", "250ms"),
    ] {
        assert_eq!(toml[name].as_str(), Some(value), "{name}");
    }
    let reactions: Vec<&str> =
        toml["reactions"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(reactions, ["like", "celebrate", "support", "love", "insightful", "funny"]);
}

#[test]
fn drain_of_a_node_that_is_alone_takes_as_long_as_one_among_others() {
    let here = Place::new();
    here.put("fanfare.toml", "kv = \"redis://127.0.0.1\"\n");
    for (line, drain) in [
        ("", "1s\"  # default"),
        ("all --kv memory", "1s\"  # default"),
        ("all --drain 40s", "40s\"  # flag --drain"),
        ("all --kv redis://127.0.0.1", "30s\"  # default"),
        ("all --config fanfare.toml", "30s\"  # default"),
        ("all --dc eu --peer us=http://127.0.0.1:9 --peer-secret-file us=secret", "30s\"  # default"),
        ("dispatcher --kv redis://127.0.0.1", "30s\"  # default"),
        ("frontend --dispatchers http://127.0.0.1:9", "30s\"  # default"),
    ] {
        has(&here.print(line, &[]).0, &[&format!("drain = \"{drain}\n")]);
    }
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
        assert!(!text.contains("0123456789abcdef") && !text.contains("nobody else"), "{text}");
    }
}

#[test]
fn the_environment_takes_lists_and_names_and_unknown_names_are_warned_of() {
    let here = Place::new();
    let environment = [
        ("FANFARE_CORS_ORIGIN", "https://a.example, https://b.example"),
        ("FANFARE_PEER", "us=https://u.example,https://v.example;ap=https://w.example"),
        ("FANFARE_PEER_SECRET_FILE", "us=secret;ap=secret"),
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
        &["FANFARE_LISTNE is not a setting; did you mean FANFARE_LISTEN?", "FANFARE_ZZZ is not a setting; known are"],
    );
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
}

#[test]
fn peers_of_several_layers_join_by_name() {
    let here = Place::new();
    here.put("f.toml", "dc = \"eu\"\npeer.us = [\"https://old.example\"]\npeer.ap = [\"https://w.example\"]\npeer_secret_file = {us = \"secret\", ap = \"secret\"}\n");
    let (toml, _) = here.print("--config f.toml --peer us=https://new.example", &[]);
    has(
        &toml,
        &[
            "peer.us = [\"https://new.example\"]  # flag --peer",
            "peer.ap = [\"https://w.example\"]  # file f.toml line 3",
        ],
    );
}

#[test]
fn help_teaches_every_flag_and_its_default() {
    let here = Place::new();
    let output = here.run("--help", &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    has(&help, &["Examples:", "fanfare subscribe live:42", "FANFARE_", "[events.wave]", "Exit status:"]);
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (toml, _) = here.print("", &[]);
    let settings = toml.parse::<toml::Table>().unwrap();
    let unset = toml.lines().filter_map(|line| line.strip_prefix("# ")?.strip_suffix(" is not set"));
    for name in settings.keys().map(String::as_str).chain(unset).filter(|name| *name != "events") {
        let flag = format!("--{}", name.replace('_', "-"));
        let at = words.find(&format!(" {flag} ")).or_else(|| words.find(&format!(" {flag}["))).expect(&flag);
        let text = &words[at..];
        let default = text.find("[default: ").map(|at| &text[at + 10..]).unwrap();
        let shown = match settings.get(name) {
            Some(toml::Value::String(value)) => value.clone(),
            Some(toml::Value::Array(_)) => "like,celebrate,support,love,insightful,funny".to_owned(),
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
