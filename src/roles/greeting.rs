//! What a node that is ready says of itself.

use std::io::Write as _;
use std::net::SocketAddr;

use tracing::info;

use crate::ground::node::Node;
use crate::observe::log;
use crate::runtime::cores::Engine;
use crate::settings::{Auth, KeySource, Role, Settings};

/// Says where to look, and what to try.
pub(super) fn greet(
    node: &Node,
    settings: &Settings,
    secure: Option<SocketAddr>,
    engine: Engine,
    cores: &[usize],
    open_files: Option<u64>,
) {
    let (public, internal) = (reachable(node.public), reachable(node.internal));
    let secure = secure.map(|address| reachable(address).to_string());
    info!(
        node = node.name,
        public = %public,
        internal = %internal,
        secure,
        io = ?engine,
        shards = cores.len(),
        cores = ?cores,
        open_files,
        "ready"
    );
    let (token, header) = match &settings.auth {
        Auth::None => (String::new(), ""),
        Auth::Jwt { keys: KeySource::Url(_), .. } => (String::new(), "-H \"Authorization: Bearer $FANFARE_TOKEN\" "),
        Auth::Jwt { keys: KeySource::File(key_file), .. } => (
            format!(
                "  Token    export FANFARE_TOKEN=$(fanfare token --key-file {} --sub ana --subscribe 'live:*' --publish 'live:*')\n",
                key_file.display()
            ),
            "-H \"Authorization: Bearer $FANFARE_TOKEN\" ",
        ),
    };
    let files = open_files.map_or("any number of".to_owned(), |files| files.to_string());
    let mut text = format!(
        "Fanfare {}{} is ready: {} shards, {files} open files allowed.\n\n",
        env!("CARGO_PKG_VERSION"),
        if settings.role == Role::All { String::new() } else { format!(" {}", settings.role) },
        cores.len(),
    );
    if node.roles.demo {
        text += &format!("  Look     http://{public}/\n");
    }
    text += &token;
    if node.roles.frontend {
        text += &format!("  Watch    curl -N {header}'http://{public}/v1/events?topic=live:42'\n");
    }
    if node.roles.backend {
        let body = r#"{"member":"ana","reaction":"like"}"#;
        text += &format!("  Like     curl {header}-d '{body}' http://{public}/v1/videos/42/likes\n");
    } else if node.roles.dispatcher {
        text +=
            &format!("  Publish  curl {header}-d '{{\"type\":\"like\"}}' http://{public}/v1/topics/live:42/events\n");
    }
    if let Some(secure) = secure {
        text += &format!("  TLS      https://{secure}/, as any name that a certificate has\n");
    }
    text += &format!("  Metrics  http://{internal}/metrics\n");
    // On a terminal they are one text.
    log::flush();
    // A reader that is gone is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// An address that can be typed into a browser on this machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => [0, 0, 0, 0, 0, 0, 0, 1].into(),
        });
    }
    address
}
