//! How much a shard does before it turns to something else: however much there is of one thing, the others have their turn.

use std::time::Duration;

use super::{ACCEPT_BURST, TICK};

/// Time for mail in one turn; what is left waits for the next. Half a thousand times what a message takes, and a quarter of what
/// anybody sees.
pub const MAIL_SLICE: Duration = Duration::from_millis(5);
/// Same, for sockets that are ready.
pub const SOCKETS_SLICE: Duration = Duration::from_millis(5);
/// Same, for viewers to whom much is written, such as those of many topics.
pub const FAN_OUT_SLICE: Duration = Duration::from_millis(5);
/// Same, for each thing that is to be done for very many streams or topics at once, such as that all are to go.
pub const CROWD_SLICE: Duration = Duration::from_millis(5);
const _: () = assert!(
    2 * MAIL_SLICE.as_millis() + SOCKETS_SLICE.as_millis() + FAN_OUT_SLICE.as_millis() + 12 * CROWD_SLICE.as_millis()
        < TICK.as_millis(),
    "a tick is not late though each of them has its whole time"
);
/// A shard that did not look for so long what its clients did ends no connection for want of it.
pub const LATE_LOOK: Duration = Duration::from_secs(1);
/// Things of a turn's slice between two looks at the clock, which costs as much as the parsing of a request's line.
pub const LOOKS_A_READ: u32 = 4;
/// In a simulation a turn takes no time, and a slice ends after so many looks.
pub const SIMULATED_LOOKS: u32 = 32;
/// A turn that took longer is told in the log: its slices end much sooner, so that something of it is not cut, or its processor
/// was another program's.
pub const LONG_TURN: Duration = Duration::from_secs(1);
/// Topics whose viewers' number is looked at, or that are let go, between two looks at the time.
pub const CROWD_BURST: usize = 64;
/// Connections accepted in a turn while events wait for viewers: some 0.1 ms, a fraction of the fan-out's burst, so that
/// those who are connected come before those who connect; still 10,000 a second.
pub const ACCEPT_BURST_BUSY: usize = 8;
const _: () = assert!(ACCEPT_BURST_BUSY < ACCEPT_BURST);
/// The longest turn is known of the last minute, in stretches of this.
pub const TURN_WINDOW: Duration = Duration::from_secs(10);
/// So many of those.
pub const TURN_WINDOWS: usize = 6;

/// How long a shard looks for more before it sleeps, where that has paid: about what a sleep costs.
pub const PATIENCE: Duration = Duration::from_micros(40);
/// Looks in vain, two for one, after which a shard that was busy sleeps at once again.
pub const PATIENCE_CREDIT_MAX: i32 = 16;
/// Sleeps after which a shard that is not busy looks once all the same.
pub const PATIENCE_PROBE: u32 = 64;
