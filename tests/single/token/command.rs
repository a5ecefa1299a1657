//! `fanfare token`, as people and scripts use it.

use super::{SECRET, file};
use fanfare::auth::{Algorithm, Keys, Token, Types};
use std::process::{Command, Output};

fn fanfare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanfare")).arg("token").args(arguments).output().unwrap()
}

#[test]
fn minted_tokens_verify() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let set = file("jwks.json");
    for (private, public, algorithm) in [
        (&secret, &secret, Algorithm::Hs256),
        (&set, &set, Algorithm::Hs256),
        (&file("rsa.pem"), &file("rsa.pub.pem"), Algorithm::Rs256),
        (&file("ec.pem"), &file("ec.pub.pem"), Algorithm::Es256),
        (&file("ed.pem"), &file("ed.pub.pem"), Algorithm::EdDsa),
    ] {
        let (path, alg) = (private.to_str().unwrap(), algorithm.name());
        let claims = [
            "--sub",
            "ana",
            "--subscribe",
            "live:*",
            "--subscribe",
            "chat:7",
            "--publish",
            "live:42",
            "--type",
            "comment",
        ];
        let output = fanfare(&[&["--key-file", path, "--alg", alg, "--ttl", "30m"][..], &claims].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.strip_suffix('\n').unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let rights = Token(token).verify(&Keys::load(public).unwrap(), now).unwrap();
        assert_eq!(rights.sub.as_deref(), Some("ana"));
        assert_eq!(rights.subscribe.iter().collect::<Vec<_>>(), ["live:*", "chat:7"]);
        assert_eq!(rights.publish.iter().collect::<Vec<_>>(), ["live:42"]);
        assert_eq!(rights.types, Types::parse(["comment"]).unwrap());
        let ends = rights.expires_at_ms.unwrap();
        assert!(ends > now && ends <= now + 30 * 60 * 1000, "{ends} {now}");
    }
}

#[test]
fn a_mistake_in_minting_exits_2_and_says_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "hunter2").unwrap();
    let path = secret.to_str().unwrap();
    let rsa = file("rsa.pem");
    for (arguments, says) in [
        (vec!["--key-file", "/nowhere/key"], "/nowhere/key"),
        (vec!["--key-file", short.to_str().unwrap()], "openssl rand -base64 48"),
        (vec!["--key-file", file("rsa.pub.pem").to_str().unwrap()], "no private key"),
        (vec!["--key-file", rsa.to_str().unwrap(), "--alg", "HS256"], "for RS256"),
        (vec!["--key-file", path, "--alg", "none"], "give HS256, RS256, ES256 or EdDSA"),
        (vec!["--key-file", path, "--subscribe", "live:*2"], "last character"),
        (vec!["--key-file", path, "--publish", "live"], "kind:id"),
        (vec!["--key-file", path, "--type", "viewers"], "only from nodes"),
        (vec!["--key-file", path, "--type", "*"], "no wildcards"),
        (vec!["--key-file", path, "--sub", ""], "128 bytes"),
        (vec!["--key-file", path, "--ttl", "0s"], "--ttl"),
        (vec!["--key-file", path, "--ttl", "soon"], "--ttl"),
        (vec![], "--key-file"),
    ] {
        let output = fanfare(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {error}");
        assert!(
            error.contains(says) && !error.contains("hunter2") && output.stdout.is_empty(),
            "{arguments:?} {error}"
        );
    }
}
