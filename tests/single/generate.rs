//! `fanfare generate`: what the package's manual pages and completions are made by.

use std::fs;
use std::process::Command;

#[test]
fn pages_and_completions_tell_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["man", "completions"] {
        let directory = folder.path().join("new").join(what);
        let output =
            Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["generate", what]).arg(&directory).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    let read = |name: &str| {
        fs::read_to_string(folder.path().join("new").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let page = read("man/fanfare.1");
    for name in ["completions/fanfare.bash", "completions/_fanfare", "completions/fanfare.fish"] {
        let text = read(name);
        for word in ["frontend", "check", "trusted-proxy", "connections"] {
            assert!(text.contains(word), "{name} has no {word}");
        }
    }
    for command in
        ["all", "frontend", "dispatcher", "backend", "subscribe", "publish", "trace", "bench", "check", "token"]
    {
        assert!(page.contains(&format!("fanfare\\-{command}(1)")), "{command}: {page}");
        assert!(read(&format!("man/fanfare-{command}.1")).contains(".TH"), "{command}");
    }
    assert!(page.contains("\\-\\-trusted\\-proxy") && page.contains("Exit status"), "{page}");
    assert!(!page.contains("generate"), "a command for packagers is not for everyone");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_of() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["generate", "man", "/proc/nowhere"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.contains("/proc/nowhere"), "{message}");
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["generate", "poems", "/tmp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
