//! Clients that follow by TLS, each trusting the test's own authority in its own way.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::between::{Between, Mode};
use super::matrix::{Followers, TOPIC, connected, publish};
use super::support::certificate::vouched;
use super::support::node::Node;

/// An authority of the test's own, as files that clients read.
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// One that vouches for `localhost`: its certificate, and that of the server with its key.
    fn new() -> Authority {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (authority, certificate, key) = vouched(&["localhost"]);
        for (name, text) in [("authority.pem", authority), ("server.pem", certificate), ("server.key", key)] {
            std::fs::write(folder.path().join(name), text).expect("a folder of the test's");
        }
        let authority = Authority { folder };
        let output = Command::new("keytool")
            .args(["-importcert", "-noprompt", "-alias", "test", "-storepass", "changeit"])
            .args([&"-file".into(), &authority.file("authority.pem"), &"-keystore".into(), &authority.file("java")])
            .output()
            .expect("keytool comes with Java; scripts/test installs it");
        assert!(output.status.success(), "{output:?}");
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// By which a client is told of it.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut java = OsString::from("-Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStore=");
        java.push(self.file("java"));
        let names = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "BROWSER_AUTHORITY"];
        let mut environment = names.map(|name| (name, self.file("authority.pem").into_os_string())).to_vec();
        environment.push(("JAVA_TOOL_OPTIONS", java));
        environment
    }
}

#[test]
fn client_does_not_come_by_tls_or_loses_something() {
    let authority = Authority::new();
    let [certificate, key] = ["server.pem", "server.key"].map(|name| authority.file(name).display().to_string());
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key, "--cors-origin", "*"];
    let node = Node::with(&[&["--cores", "2"], &tls[..]].concat());
    let between = Between::start(node.secure());
    let url = format!("https://localhost:{}/v1/events?topic={TOPIC}", between.address.port());
    let mut followers = Followers::start(&url, None, Some(&authority));
    followers.until("connected", |_, lines| connected(lines));
    publish(&node, "by TLS");
    followers.until_all_have("by TLS");
    between.set(Mode::Hold);
    between.cut();
    publish(&node, "after a cut");
    between.set(Mode::Open);
    followers.until_all_have("after a cut");
    followers.assert_well();
}
