//! Which of two values of class `latest` is the newer one.

/// The version of a value of class `latest`: of two values the newer one has the greater. Every place that keeps one of two
/// compares all of it, so that all of them keep the same one: two data centers may give the same number in the same
/// millisecond, and whoever looked at numbers alone would keep what came last, or first, for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version<'a> {
    /// Unix ms when its data center was given it, or one more than that of the value before; 0 for none.
    pub number: u64,
    /// The data center that gave it, which decides between equal numbers; empty where that is not known.
    pub dc: &'a str,
}

impl Version<'_> {
    /// What has none: of two values without one, that which comes later is the newer one.
    pub const NONE: Version<'static> = Version { number: 0, dc: "" };
}
