//! Log lines on standard error: for people on a terminal, JSON otherwise. A thread of its own writes them: who reads them slowly,
//! or not at all, holds up no shard.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::limits::{LOG_FLUSH, LOG_LINES_BYTES_MAX};

/// Puts another filter in the place of the one that holds.
type Replace = Box<dyn Fn(EnvFilter) + Send + Sync>;

static REPLACE: OnceLock<Replace> = OnceLock::new();

/// Lines that are not written yet.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    /// Those taken out last are being written.
    writing: bool,
    /// Lines that found no room, ever,
    lost: u64,
    /// and when that was last told.
    told: u64,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { bytes: Vec::new(), writing: false, lost: 0, told: 0 });
static CHANGED: Condvar = Condvar::new();

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a thread puts the line that it logs.
struct Queue;

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = waiting();
        if waiting.bytes.len() + line.len() > LOG_LINES_BYTES_MAX {
            waiting.lost += 1;
        } else {
            waiting.bytes.extend_from_slice(line);
        }
        CHANGED.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines for ever.
fn write(mut to: impl Write) {
    loop {
        let waits = CHANGED.wait_while(waiting(), |waiting| waiting.bytes.is_empty());
        let mut waiting = waits.unwrap_or_else(PoisonError::into_inner);
        waiting.writing = true;
        let bytes = std::mem::take(&mut waiting.bytes);
        let lost = waiting.lost;
        let lines = lost - std::mem::replace(&mut waiting.told, lost);
        drop(waiting);
        if lines > 0 {
            // It comes behind the lines that they found no room behind.
            warn!(lines, "lines that found no room, since those before them were not read");
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            // A log that cannot be written, such as one on a full disk, can be told of nowhere.
            let _ = to.write_all(line);
        }
        self::waiting().writing = false;
        CHANGED.notify_all();
    }
}

/// Waits until what was logged is written, or nobody seems to read it. To be called before the process ends.
pub fn flush() {
    drop(CHANGED.wait_timeout_while(waiting(), LOG_FLUSH, |waiting| waiting.writing || !waiting.bytes.is_empty()));
}

/// Lines that found no room.
pub fn lost() -> u64 {
    waiting().lost
}

/// Starts logging. `text` is in the syntax of `tracing`: a level, or `target=level` pairs. To be called once.
///
/// # Errors
/// When no thread can be started.
pub fn start(text: &str) -> io::Result<()> {
    thread::Builder::new().name("log".to_owned()).spawn(|| write(io::stderr()))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter(text)).with_writer(|| Queue);
    // A line that cannot be formatted would be complained of on standard error, whoever reads that.
    let lines = lines.log_internal_errors(false);
    if io::stderr().is_terminal() {
        let lines = lines.with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        let _ = REPLACE.set(Box::new(move |filter| drop(handle.reload(filter))));
        lines.init();
    } else {
        let lines = lines.json().flatten_event(true).with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        let _ = REPLACE.set(Box::new(move |filter| drop(handle.reload(filter))));
        lines.init();
    }
    Ok(())
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
