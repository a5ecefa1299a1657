//! Between data centers by TLS, as over the open internet: behind nginx with `tuning/proxy/nginx-peer.conf`.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::mesh::{Center, Mesh, Wanted, internal};
use crate::support::certificate::certified;
use crate::support::eventually;
use crate::support::nginx::nginx;

/// Where nginx listens in each data center.
const PORT: u16 = 8443;

/// nginx in front of a data center's dispatchers.
struct Proxy {
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    fn start(center: &Center, place: usize, certificate: &str, key: &str) -> Proxy {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("certificate"), certificate).expect("the folder is ours");
        std::fs::write(file("key"), key).expect("the folder is ours");
        let address = center.network.address();
        let changes = [
            ("listen 8443 ssl;", format!("listen {address}:{PORT} ssl;")),
            ("server 127.0.0.1:8081;", format!("server {};", internal(place, 0))),
            ("# server 10.0.0.6:8081;", format!("server {};", internal(place, 1))),
            ("server_name eu.example;", format!("server_name {address};")),
            ("/etc/ssl/certs/fanfare.pem", file("certificate")),
            ("/etc/ssl/private/fanfare.key", file("key")),
        ];
        let mut command = nginx(folder.path(), "nginx-peer.conf", &changes);
        let spawn = || command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = center.network.inside(spawn).expect("nginx; scripts/test installs it");
        eventually("nginx to listen", || center.network.inside(|| TcpStream::connect((address, PORT))).map(drop));
        Proxy { child, _folder: folder }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Two data centers that reach each other by TLS, and nginx in front of each. The first trusts the second's certificate
/// if it is to.
fn behind_nginx(trusting: bool) -> (Mesh, [Proxy; 2]) {
    let certificates = [certified(&["10.77.0.1"]), certified(&["10.77.0.2"])];
    let encrypted = |folder: &Path, at: usize, wanted: &mut Wanted| {
        let other = 1 - at;
        wanted.peers[0].urls = vec![format!("https://{}:{PORT}", internal(other, 0).ip())];
        let trusted = if at == 1 || trusting { &certificates[other] } else { &certificates[at] };
        let file = folder.join(format!("trusted-by-{at}"));
        std::fs::write(&file, &trusted.0).expect("the folder is ours");
        wanted.environment.push(("SSL_CERT_FILE".to_owned(), file.display().to_string()));
    };
    let mesh = Mesh::with(&["a", "b"], encrypted);
    let proxies = [0, 1].map(|at| Proxy::start(&mesh.centers[at], at, &certificates[at].0, &certificates[at].1));
    (mesh, proxies)
}

/// The status of an answer by nginx, for somebody who does not look at its certificate.
fn status(center: &Center, target: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-k", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--max-time", "20"]);
    curl.arg(format!("https://{}:{PORT}{target}", center.network.address()));
    let output = center.network.inside(|| curl.output()).expect("curl; scripts/test installs it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn events_that_do_not_pass_by_tls() {
    let (mesh, _proxies) = behind_nginx(true);
    mesh.wait_joined();
    let viewers = mesh.viewers(&["chat:7".to_owned()], 2);
    let mut ids = Vec::new();
    for (number, center) in (0..20).flat_map(|number| mesh.centers.iter().map(move |center| (number, center))) {
        // Some larger than what a proxy buffers unless told.
        let event = json!({"type": (["message", "note"][number % 2]), "data": "x".repeat(number * 700)});
        ids.push(center.publish(number / 2 % 2, "chat:7", &event));
    }
    for viewers in &viewers {
        viewers.have(&ids);
        viewers.without_repeats(&ids);
        viewers.without_gaps();
    }
    // Peers are let in, others are not even where nodes would ask for a secret.
    assert_eq!(status(&mesh.centers[0], "/v1/internal/peer/hello"), "403", "who does not say which one it is is none");
    for target in ["/metrics", "/v1/node", "/v1/events", "/v1/internal/frames", "/v1/internal/peer/../frames"] {
        assert_eq!(status(&mesh.centers[0], target), "404", "{target}");
    }
}

#[test]
fn events_sent_to_somebody_with_a_certificate_that_is_not_trusted() {
    let (mesh, _proxies) = behind_nginx(false);
    let (a, b) = (&mesh.centers[0], &mesh.centers[1]);
    let viewers = mesh.viewers(&["chat:7".to_owned()], 2);
    a.wait_logged(&["certificate"]);
    let kept = a.publish(0, "chat:7", &json!({"type": "message"}));
    viewers[0].have(std::slice::from_ref(&kept));
    // The other way is in order.
    let sent = b.publish(0, "chat:7", &json!({"type": "message"}));
    viewers.iter().for_each(|viewers| viewers.have(std::slice::from_ref(&sent)));
    assert!(!viewers[1].lock().iter().any(|viewer| viewer.has(&kept)), "it passed");
    assert_eq!(b.peer("fanfare_peer_frames_received_total", "a"), 0.0);
    a.wait_whole();
}
