//! While the node behind a proxy is away, an `EventSource` is told to come again: from any other answer than a stream it would
//! never do so.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::setup::{Config, Kind, Proxy};
use crate::support::eventually;
use crate::support::nginx::here;
use crate::support::node::{Node, program};
use crate::support::ports::free_port;

/// A browser that follows by two `EventSource`s, on a page of another origin.
struct Browser {
    script: Child,
    lines: mpsc::Receiver<String>,
}

impl Browser {
    fn open(name: &str, proxy: &Proxy, page_port: u16) -> Browser {
        let mut script = Command::new("node")
            .args(["away.mjs", name, &proxy.url(""), &page_port.to_string()])
            .current_dir(here("tests/browser"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node; scripts/test installs it");
        let stdout = BufReader::new(script.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Browser { script, lines }
    }

    /// Waits until it says so. It gives up by itself before that.
    #[track_caller]
    fn says(&self, word: &str) {
        let line = self.lines.recv_timeout(Duration::from_secs(200)).expect("its complaint is above");
        assert_eq!(line, word);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its browser by itself, unless it hangs.
        if eventually_ended(&mut self.script).is_none() {
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}

fn eventually_ended(child: &mut Child) -> Option<()> {
    (0..600).find_map(|_| match child.try_wait() {
        Ok(None) => {
            std::thread::sleep(Duration::from_millis(50));
            None
        }
        _ => Some(()),
    })
}

fn eventsource_comes_back(kind: Kind, browser: &str) {
    let page_port = free_port();
    let origin = format!("http://127.0.0.1:{page_port}");
    let flags = ["--cores", "2", "--trusted-proxy", "127.0.0.1", "--cors-origin", &origin];
    let node = Node::with(&flags);
    let (public, internal) = (node.public.to_string(), node.internal.to_string());
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    let viewer = Browser::open(browser, &proxy, page_port);
    viewer.says("connected");
    node.kill();
    viewer.says("told");
    // What is no EventSource gets an error that it can tell from a stream, whether or not the proxy knows already.
    let as_stream = ["-H", "Accept: text/event-stream", "-H", "Origin: https://else.example", "-i"];
    let answer = String::from_utf8(proxy.curl(&as_stream, "/v1/events?topic=live:42").stdout).unwrap().to_lowercase();
    for part in [
        " 200",
        "content-type: text/event-stream",
        "cache-control: no-store",
        "access-control-allow-origin: https://else.example",
        "access-control-allow-credentials: true",
        "\nretry: ",
        "\nevent: bye\n",
        "\"reason\":\"busy\"",
    ] {
        assert!(answer.contains(part), "{part:?} is missing in {answer}");
    }
    let own = String::from_utf8(proxy.curl(&as_stream[..2], "/v1/events?topic=live:42").stdout).unwrap();
    let lines: Vec<&str> = own.lines().collect();
    let retry_ms: u32 = lines[0].strip_prefix("retry: ").and_then(|ms| ms.parse().ok()).expect("a time to reconnect");
    assert!((1000..=3000).contains(&retry_ms), "{own}");
    assert_eq!(lines[1..3], ["event: bye", &format!(r#"data: {{"reason":"busy","retry_ms":{retry_ms}}}"#)]);
    assert!(own.ends_with("\n\n"), "{own:?}");
    for (arguments, target) in [
        (&[][..], "/v1/events?topic=live:42"),
        (&as_stream[..2], "/v1/videos/42/likes"),
        (&["-d", "{}", "-H", "Accept: text/event-stream"][..], "/v1/events"),
    ] {
        let code = proxy.code(arguments, target);
        assert!(["502", "503", "504"].contains(&code.as_str()), "{arguments:?} {target}: {code}");
    }
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("fanfare.db").display());
    let flags = [&flags[..], &["--listen", &public]].concat();
    let node = Node::run_on(program(), "all", &internal, &database, &flags);
    viewer.says("back");
    eventually("both streams", || if node.counts()[0] == 2 { Ok(()) } else { Err(node.counts()) });
    node.publish("live:42", &json!({"type": "news"}));
    viewer.says("ok");
}

macro_rules! in_browsers {
    ($($name:ident $kind:ident)*) => {
        $(mod $name {
            use crate::proxies::setup::Kind;

            #[test]
            fn chromium_comes_back() {
                super::eventsource_comes_back(Kind::$kind, "chromium");
            }

            #[test]
            fn firefox_comes_back() {
                super::eventsource_comes_back(Kind::$kind, "firefox");
            }
        })*
    };
}

in_browsers! { nginx Nginx haproxy HaProxy caddy Caddy }
