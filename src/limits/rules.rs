//! Bounds of what moderators ask of who comments.

/// The longest slow mode: one comment a day.
pub const SLOW_SECONDS_MAX: u32 = 86_400;
/// The longest time-out: a year.
pub const TIMEOUT_SECONDS_MAX: u32 = 365 * 86_400;
