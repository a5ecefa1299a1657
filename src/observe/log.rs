//! Log lines on standard error: for people on a terminal, JSON otherwise.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Puts another filter in the place of the one that holds.
type Replace = Box<dyn Fn(EnvFilter) + Send + Sync>;

static REPLACE: OnceLock<Replace> = OnceLock::new();

/// Starts logging. `text` is in the syntax of `tracing`: a level, or `target=level` pairs.
pub fn start(text: &str) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter(text)).with_writer(std::io::stderr);
    // A log that cannot be written, such as one on a full disk, would be complained of there as well, and by a panic.
    let lines = lines.log_internal_errors(false);
    // Both fail only if something logs already, as in tests that start two nodes in a process.
    if std::io::stderr().is_terminal() {
        let lines = lines.with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        let _ = REPLACE.set(Box::new(move |filter| drop(handle.reload(filter))));
        let _ = lines.try_init();
    } else {
        let lines = lines.json().flatten_event(true).with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        let _ = REPLACE.set(Box::new(move |filter| drop(handle.reload(filter))));
        let _ = lines.try_init();
    }
}

/// From now on what passes this filter is logged.
pub fn reload(text: &str) {
    if let Some(replace) = REPLACE.get() {
        replace(filter(text));
    }
}

fn filter(text: &str) -> EnvFilter {
    // The runtime's own notes on what the kernel lacks are for its developers.
    EnvFilter::try_new(format!("{text},glommio=error")).unwrap_or_else(|_| EnvFilter::new("info"))
}
