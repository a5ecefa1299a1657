//! Log lines on standard error: for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is in the syntax of `tracing`: a level, or `target=level` pairs.
pub fn start(filter: &str) {
    // The runtime's own notes on what the kernel lacks are for its developers.
    let filter = EnvFilter::try_new(format!("{filter},glommio=error")).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that cannot be written, such as one on a full disk, would be complained of there as well, and by a panic.
    let lines = lines.log_internal_errors(false);
    // Fails only if something logs already, as in tests that start two nodes in a process.
    let _ = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_target(false).try_init()
    };
}
