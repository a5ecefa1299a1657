//! nginx with one of the configurations of `tuning/proxy`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A path of the repository.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The file with each of these texts replaced, which must stand in it.
pub fn changed(file: &str, changes: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(here("tuning/proxy").join(file)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from:?} any more");
        text = text.replace(from, to);
    }
    text
}

/// nginx with the file so changed, all it writes in `folder`. End it by SIGTERM: killed, it would leave workers behind.
pub fn nginx(folder: &Path, file: &str, changes: &[(&str, String)]) -> Command {
    nginx_with(folder, &changed(file, changes))
}

/// nginx with this in its `http` block.
pub fn nginx_with(folder: &Path, text: &str) -> Command {
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("fanfare.conf"), text).unwrap();
    // What Debian's nginx.conf has around it, with everything in the test's folder. Workers of root's nginx are nobody's,
    // and could not enter it.
    let root = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", path(name)))
        .concat();
    let around = format!(
        "daemon off;\n{root}worker_processes 2;\npid {};\nerror_log stderr;\nevents {{ worker_connections 1024; }}\n\
         http {{\n{temporary}gzip on;\ninclude {};\n}}\n",
        path("pid"),
        path("fanfare.conf")
    );
    fs::write(folder.join("nginx.conf"), around).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}
