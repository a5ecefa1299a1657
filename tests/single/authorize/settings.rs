//! How a server that is asked is set up, as settings and as the page shows one.

use serde_json::json;

use super::folder;
use crate::support::authorize::{Server, secret};
use crate::support::eventually;
use crate::support::node::{Node, program};
use crate::support::ports::free_port;

#[test]
fn settings_that_are_not_taken_up_or_show_a_secret() {
    let (folder, server) = (folder(), Server::start());
    let file = folder.path().join("fanfare.toml");
    std::fs::write(&file, "authorize_keep = \"1h\"\n").expect("the folder is ours");
    let node = server.node(folder.path(), &["--config", file.to_str().expect("a path of ours")]);
    node.publish("live:1", &json!({"type": "wave", "data": 1}));
    node.publish("live:1", &json!({"type": "wave", "data": 2}));
    assert_eq!(server.asked().len(), 1);
    std::fs::write(&file, "authorize_keep = \"0s\"\nauthorize_headers = [\"origin\"]\n").expect("the folder is ours");
    node.signal(rustix::process::Signal::HUP);
    node.until_logged(&["settings read again", "authorize_keep", "authorize_headers"]);
    node.publish("live:2", &json!({"type": "wave", "data": 3}));
    node.publish("live:2", &json!({"type": "wave", "data": 4}));
    assert_eq!(server.asked().len(), 3);
    // A new secret signs from now on, which this server does not know.
    use base64::Engine as _;
    let old = base64::engine::general_purpose::STANDARD.encode(crate::support::hooks::KEY);
    let new = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let secret = folder.path().join("authorize.secret");
    std::fs::write(&secret, format!("whsec_{new}\n")).expect("the folder is ours");
    node.until_logged(&["authorize.secret"]);
    node.post("/v1/topics/live:3/events", r#"{"type":"w","data":1}"#).problem(503);
    assert!(!node.log().join("\n").contains(&new) && !node.log().join("\n").contains(&old));
    let shown = node.internal_json("/v1/settings").to_string();
    assert!(shown.contains("authorize.secret") && !shown.contains(&new) && !shown.contains(&old), "{shown}");
}

fn refused(flags: &[&str]) -> String {
    let output = program().args(["all", "--print-config"]).args(flags).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{flags:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn settings_that_cannot_work_taken() {
    let folder = folder();
    let [flag, file] = secret(folder.path());
    let url = "https://app.example/ask";
    let short = folder.path().join("short");
    std::fs::write(&short, "whsec_c2hvcnQ=").expect("the folder is ours");
    for (flags, says) in [
        (vec!["--authorize", url], "--authorize-secret-file"),
        (vec!["--authorize", "http://10.0.0.9/ask", flag, file], "in the clear"),
        (vec!["--authorize", "ftp://a/", flag, file], "no http://"),
        (vec!["--authorize", "https://ana:pw@a.example/", flag, file], "names a user"),
        (vec!["--authorize", url, flag, short.to_str().expect("a path of ours")], "24 to 64"),
        (vec!["--authorize", url, flag, file, "--authorize-deadline", "11s"], "50ms to 10s"),
        (vec!["--authorize", url, flag, file, "--authorize-keep", "25h"], "24h"),
        (vec!["--authorize", url, flag, file, "--authorize-away", "maybe"], "refuse or allow"),
        (vec!["--authorize", url, flag, file, "--authorize-headers", "cookie", "--cors-origin", "*"], "every page"),
        (vec!["--authorize", url, flag, file, "--authorize-headers", "x-user"], "cookie, authorization or origin"),
    ] {
        let said = refused(&flags);
        assert!(said.contains(says), "{flags:?}: {said}");
    }
}

/// Runs a server that the page shows, on a port of its own, until it is dropped.
struct Shown(std::process::Child);

impl Shown {
    fn start(language: &str, folder: &std::path::Path, port: u16) -> Shown {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/authorize.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect("an example");
        let code = rest.split_once("\n```").expect("its end").0.replace("9000", &port.to_string());
        let (program, file) = if language == "python" { ("python3", "server.py") } else { ("node", "server.mjs") };
        std::fs::write(folder.join(file), code).expect("the folder is ours");
        let mut command = std::process::Command::new(program);
        command.arg(file).current_dir(folder).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Shown(command.spawn().expect("it starts"))
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn server_of_the_page_that_does_not_work() {
    for language in ["python", "js"] {
        let (folder, port) = (folder(), free_port());
        let _shown = Shown::start(language, folder.path(), port);
        let [flag, file] = secret(folder.path());
        let url = format!("http://127.0.0.1:{port}/");
        let flags = ["--cores", "1", "--authorize", &url, flag, file];
        let node = Node::launch(program(), folder.path(), &flags);
        let event = r#"{"type":"wave"}"#;
        eventually(language, || match node.post("/v1/topics/live:1/events", event).status {
            202 => Ok(()),
            status => Err(status),
        });
        assert_eq!(node.post("/v1/topics/chat:1/events", event).problem(403), "only live: is open", "{language}");
        // Who signs with another secret is no Fanfare of ours.
        std::fs::write(folder.path().join("other"), format!("whsec_{}", "A".repeat(43))).expect("the folder is ours");
        let other = folder.path().join("other");
        let other = ["--cores", "1", "--authorize", &url, flag, other.to_str().expect("a path of ours")];
        let node = Node::launch(program(), folder.path(), &other);
        node.post("/v1/topics/live:1/events", event).problem(503);
        assert_eq!(node.metric("fanfare_authorize_failed_total", "reason=\"status\""), 1);
    }
}
