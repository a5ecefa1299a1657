//! A place to run the built program in.

use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with what settings point to, and the program to run in it with no environment but given.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("secret", "0123456789abcdef0123456789abcdef\n");
        put("short", "abc\n");
        put("signing", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
        put("empty", "\n");
        put("key", "a key for tokens that nobody else knows\n");
        Place { folder }
    }

    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs it to its end. One that takes what it should refuse would run for ever: it is killed, which is a status of its own.
    pub fn run(&self, line: &str, environment: &[(&str, &str)]) -> Output {
        Command::new("/usr/bin/timeout")
            .args(["-s", "KILL", "60", env!("CARGO_BIN_EXE_fanfare")])
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// What `--print-config` prints, and the warnings.
    pub fn print(&self, line: &str, environment: &[(&str, &str)]) -> (String, String) {
        let output = self.run(&format!("{line} --print-config"), environment);
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "fanfare {line}: {warnings}");
        (String::from_utf8(output.stdout).unwrap(), warnings)
    }

    /// The message of a run that must exit 2 with nothing on standard output.
    pub fn refused(&self, line: &str, environment: &[(&str, &str)]) -> String {
        let output = self.run(line, environment);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "fanfare {line}: {message}");
        assert!(output.stdout.is_empty(), "fanfare {line}");
        message
    }

    #[track_caller]
    pub fn refuses(&self, line: &str, parts: &[&str]) {
        has(&self.refused(line, &[]), parts);
    }
}

#[track_caller]
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Settings with which every role of a cluster starts.
pub const CLUSTER: &str = "--kv redis://127.0.0.1 --db sqlite:x.db --dispatchers http://127.0.0.1:8081";
