//! One connection, member, topic or event, tracked through the log: `--log member=ana`. While none is named that costs a look
//! at one flag where something could be told.

use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use std::sync::LazyLock;

use crate::observe::happenings::subject::Subject;
use crate::settings::Tracked;

/// The target of its lines, which a filter lets pass whatever else it says.
pub const TARGET: &str = "track";

static ON: AtomicBool = AtomicBool::new(false);
static TRACKED: LazyLock<ArcSwap<Tracked>> = LazyLock::new(ArcSwap::default);

/// From now on these are tracked, and no others.
pub fn set(tracked: Tracked) {
    ON.store(!tracked.is_empty(), Ordering::Relaxed);
    TRACKED.store(tracked.into());
}

/// Whether any is.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Logs what was done, if it is about one that is tracked.
#[cold]
pub fn tell(step: &str, about: &Subject<'_>) {
    tell_if(true, step, about);
}

/// The same of what was written to one viewer. Who tracks a topic or an event is not told of each of its viewers, who may be a
/// million.
#[cold]
pub fn tell_written(step: &str, about: &Subject<'_>) {
    tell_if(false, step, about);
}

fn tell_if(by_event: bool, step: &str, about: &Subject<'_>) {
    let tracked = TRACKED.load();
    let (topic, event) = about.names();
    let connection = about.connection.map(|connection| connection.shown());
    let is_named = connection.as_ref().is_some_and(|connection| tracked.has_connection(connection))
        || about.member.is_some_and(|member| tracked.has_member(member))
        || by_event && topic.is_some_and(|topic| tracked.has_topic(topic))
        || by_event && event.as_ref().is_some_and(|event| tracked.has_event(event));
    if is_named {
        let (member, says) = (about.member, about.says.map(|says| says.to_string()));
        tracing::info!(target: TARGET, connection, member, topic, event, says, "{step}");
    }
}
