//! Log lines on standard error: for people on a terminal, JSON otherwise. A thread of its own writes them: who reads them slowly,
//! or not at all, holds up no shard.

use std::fmt::{Debug, Display, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tracing::field::Field;
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

use crate::limits::{LOG_FLUSH, LOG_LINES_BYTES_MAX};
use crate::observe::happenings::ring::{Head, Line};
use crate::observe::happenings::{self, Happening, Level, What};
use crate::observe::track;
use crate::settings::log_parts;

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
    let (filter, handle) = reload::Layer::new(filter(text));
    let _ = REPLACE.set(Box::new(move |filter| drop(handle.reload(filter))));
    // A line that cannot be formatted would be complained of on standard error, whoever reads that.
    let lines = fmt::layer().with_writer(|| Queue).with_target(false).log_internal_errors(false);
    // The flight recorder has its own idea of what is notable.
    let recorder = tracing_subscriber::registry().with(Recorder.with_filter(Recorder::filter()));
    if io::stderr().is_terminal() {
        recorder.with(lines.with_filter(filter)).init();
    } else {
        recorder.with(lines.json().flatten_event(true).with_filter(filter)).init();
    }
    Ok(())
}

/// From now on what passes this filter is logged.
pub fn reload(text: &str) {
    if let Some(replace) = REPLACE.get() {
        replace(filter(text));
    }
}

/// The filter of lines; what `text` has tracked is tracked from now on.
fn filter(text: &str) -> EnvFilter {
    let (levels, tracked) = log_parts(text);
    track::set(tracked);
    // The runtime's own notes on what the kernel lacks are for its developers.
    EnvFilter::try_new(format!("{levels},glommio=error,{}=info", track::TARGET))
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Has the flight recorder have what is logged, whether or not a filter lets it pass.
struct Recorder;

impl Recorder {
    fn filter() -> Targets {
        // What is tracked is what somebody looks at already.
        Targets::new()
            .with_default(LevelFilter::WARN)
            .with_targets([("fanfare", LevelFilter::INFO), (track::TARGET, LevelFilter::OFF)])
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = if *metadata.level() <= tracing::Level::WARN { Level::Warn } else { Level::Info };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let kind = What::of_module(metadata.target()) as u8;
        happenings::logged(Head { at, kind, shard: this_shard() }, level, &Line::of(Fields(event)));
    }
}

/// The shard whose thread this is; the first for all other threads.
fn this_shard() -> u16 {
    let thread = thread::current();
    thread.name().and_then(|name| name.strip_prefix("shard-")?.parse().ok()).unwrap_or(0)
}

/// What a line says: the sentence, and then its fields.
struct Fields<'a>(&'a Event<'a>);

impl Display for Fields<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut written = Ok(());
        self.0.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                written = written.and(write!(out, "{value:?}"));
            }
        });
        self.0.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() != "message" {
                written = written.and(write!(out, " {}={value:?}", field.name()));
            }
        });
        written
    }
}

/// Writes what happened to standard error, the oldest first, by whoever calls this, who waits for whoever reads it.
pub fn write_happenings(happenings: &[Happening]) {
    let is_terminal = io::stderr().is_terminal();
    let mut lines = String::new();
    for happening in happenings {
        let Happening { at, shard, level, what, detail } = happening;
        let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(*at));
        if is_terminal {
            let _ = writeln!(lines, "{at} {} happened: shard={shard} {what} {detail}", level.name().to_uppercase());
        } else {
            let (timestamp, level) = (at.to_string(), level.name().to_uppercase());
            let line = json!({"timestamp": timestamp, "level": level, "message": "happened", "shard": shard, "what": what, "detail": detail});
            let _ = writeln!(lines, "{line}");
        }
    }
    let _ = io::stderr().write_all(lines.as_bytes());
}
