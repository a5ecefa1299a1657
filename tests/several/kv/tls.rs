//! Redis behind TLS, with an authority of our own.

use std::process::Command;

use super::driver::{Store, topic};
use crate::support::redis::Redis;

#[test]
fn encrypted_and_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=fanfare-test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let redis = Redis::with(&[
        "--save",
        "",
        "--tls-port",
        "{port}",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ]);
    let address = format!("127.0.0.1:{}", redis.port);
    let store = Store::redis(&format!("rediss://{address}?cacert={certificate}"), "dc1");
    let (place, _) = store.append(&topic("live:1"), "x", 9);
    assert_eq!(store.ends(&[topic("live:1")])[0].position, Some(place));
    assert_eq!(store.kv.trouble().map(|reason| reason.whole()), None);
    // A certificate that nobody here vouches for is no certificate, and a clear connection gets nowhere.
    let other = Redis::start();
    for url in [
        format!("rediss://localhost:{}?cacert={certificate}", redis.port),
        format!("redis://{address}"),
        format!("rediss://127.0.0.1:{}?cacert={certificate}", other.port),
    ] {
        let store = Store::unfound(&url, "dc1");
        assert!(store.kv.trouble().map(|reason| reason.whole()).is_some(), "{url}");
    }
}
