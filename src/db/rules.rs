//! What moderators ask of who comments on a video: rules for all, and time-outs of single members. No IO, no clock: a database
//! decides by it in the commit that would store the comment, so that what one backend stored binds all others at once.

use crate::limits::SLOW_SECONDS_MAX;
use crate::runtime::planted::{Mistake, planted};

/// Who may comment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comments {
    /// Whoever may publish to the video's topic.
    #[default]
    Open,
    /// Its members, and moderators.
    Members,
    /// Moderators alone.
    Moderators,
}

impl Comments {
    const NAMED: [(Comments, &str); 3] =
        [(Comments::Open, "open"), (Comments::Members, "members"), (Comments::Moderators, "moderators")];

    /// As clients write it.
    pub fn name(self) -> &'static str {
        Comments::NAMED[usize::from(self.number())].1
    }

    /// What a client wrote.
    pub fn named(name: &str) -> Option<Comments> {
        Comments::NAMED.into_iter().find(|(_, known)| *known == name).map(|(comments, _)| comments)
    }

    /// As it is stored. Numbers never change.
    pub(crate) fn number(self) -> u8 {
        match self {
            Comments::Open => 0,
            Comments::Members => 1,
            Comments::Moderators => 2,
        }
    }

    /// What was stored. What only a later version knows is taken for the strictest.
    pub(crate) fn of(number: i64) -> Comments {
        match number {
            0 => Comments::Open,
            1 => Comments::Members,
            _ => Comments::Moderators,
        }
    }
}

/// As whom somebody comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Somebody who may publish to the video's topic, and no more.
    Guest,
    /// One of its members.
    Member,
    /// One of its moderators, whom nothing here binds.
    Moderator,
}

/// What holds for all who comment on a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// At least so long after a member's comment comes their next one; 0 is no slow mode.
    pub slow_seconds: u32,
    /// Who may comment.
    pub comments: Comments,
}

/// What is to change of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// None leaves it as it is.
    pub slow_seconds: Option<u32>,
    /// None leaves it as it is.
    pub comments: Option<Comments>,
}

/// Rules as a database has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) rules: Rules,
    /// Grows with each change: about when that was, in Unix milliseconds. 0 where they were never set.
    pub(crate) version: u64,
}

impl Kept {
    /// As they are stored.
    pub(crate) fn stored(slow_seconds: i64, comments: i64, version: i64) -> Kept {
        let slow_seconds = u32::try_from(slow_seconds.max(0)).unwrap_or(SLOW_SECONDS_MAX);
        Kept {
            rules: Rules { slow_seconds, comments: Comments::of(comments) },
            version: version.max(0).cast_unsigned(),
        }
    }

    /// Those that follow, changed at a time.
    pub(crate) fn changed(self, change: Change, at: u64) -> Kept {
        let Kept { rules, version } = self;
        let rules = Rules {
            slow_seconds: change.slow_seconds.unwrap_or(rules.slow_seconds),
            comments: change.comments.unwrap_or(rules.comments),
        };
        Kept { rules, version: at.max(version + 1) }
    }
}

/// Why a comment is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bar {
    /// Others may comment, and whoever asks may not.
    Closed(Comments),
    /// Moderators gave the member a time-out, which lasts for so much longer.
    TimedOut {
        /// In milliseconds.
        wait_ms: u64,
    },
    /// The member commented too short a time ago.
    Slow {
        /// That of the rules.
        slow_seconds: u32,
        /// In milliseconds.
        wait_ms: u64,
    },
}

/// What a database has of a member on a video, in Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// When the newest comment was written; it need not be known where there is no slow mode.
    pub(crate) commented: Option<i64>,
    /// When a time-out ends.
    pub(crate) until: Option<i64>,
}

impl Rules {
    /// Why a comment of a time is not taken, if it is not.
    pub(crate) fn bar(self, standing: Standing, past: Past, at: u64) -> Option<Bar> {
        let is_closed = match self.comments {
            Comments::Open => false,
            Comments::Members => standing < Standing::Member,
            Comments::Moderators => standing < Standing::Moderator,
        };
        if standing == Standing::Moderator {
            return None;
        }
        if is_closed {
            return Some(Bar::Closed(self.comments));
        }
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        let left = |end: i64| end.saturating_sub(at).max(0).cast_unsigned();
        if let Some(wait_ms) = past.until.map(left).filter(|left| *left > 0) {
            return Some(Bar::TimedOut { wait_ms });
        }
        let slow_ms = i64::from(self.slow_seconds) * 1_000;
        // What was written by a clock that was far ahead would bar the member for as long as it was that.
        let commented = past.commented.filter(|commented| *commented <= at.saturating_add(slow_ms))?;
        let wait_ms = left(commented.saturating_add(slow_ms));
        let is_slow = wait_ms > 0 && !planted(Mistake::SlowModeForgotten);
        is_slow.then_some(Bar::Slow { slow_seconds: self.slow_seconds, wait_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 1_732_313_131_123;

    fn past(commented: Option<i64>, until: Option<i64>) -> Past {
        let ago = |ms: i64| AT.cast_signed() - ms;
        Past { commented: commented.map(ago), until: until.map(|ms| AT.cast_signed() + ms) }
    }

    fn rules(slow_seconds: u32, comments: Comments) -> Rules {
        Rules { slow_seconds, comments }
    }

    #[test]
    fn moderator_bound_by_own_rules() {
        let all = rules(5, Comments::Moderators);
        assert_eq!(all.bar(Standing::Moderator, past(Some(0), Some(60_000)), AT), None);
    }

    #[test]
    fn guest_writes_where_members_do() {
        let nothing = past(None, None);
        for (comments, closed) in
            [(Comments::Open, [false, false]), (Comments::Members, [true, false]), (Comments::Moderators, [true, true])]
        {
            for (standing, closed) in [Standing::Guest, Standing::Member].into_iter().zip(closed) {
                let bar = rules(0, comments).bar(standing, nothing, AT);
                assert_eq!(bar, closed.then_some(Bar::Closed(comments)), "{comments:?} {standing:?}");
            }
        }
    }

    #[test]
    fn wait_is_too_short_or_without_end() {
        let slow = rules(5, Comments::Open);
        let bar = |commented, until| slow.bar(Standing::Guest, past(commented, until), AT);
        let waits = |wait_ms| Some(Bar::Slow { slow_seconds: 5, wait_ms });
        assert_eq!((bar(None, None), bar(Some(5_000), None), bar(Some(5_001), None)), (None, None, None));
        assert_eq!((bar(Some(4_999), None), bar(Some(0), None)), (waits(1), waits(5_000)));
        assert_eq!(bar(Some(-4_000), None), waits(9_000), "another backend's clock is ahead");
        assert_eq!(bar(Some(-3_600_000), None), None, "a clock was an hour ahead for a moment");
        assert_eq!(bar(Some(0), Some(9)), Some(Bar::TimedOut { wait_ms: 9 }));
        assert_eq!(bar(None, Some(0)), None);
        assert_eq!(Rules::default().bar(Standing::Guest, past(Some(0), None), AT), None);
        assert_eq!(slow.bar(Standing::Guest, Past { commented: Some(i64::MAX), until: Some(i64::MIN) }, AT), None);
    }

    #[test]
    fn change_forgets_what_it_does_not_name_or_comes_before_the_last() {
        let slow = Change { slow_seconds: Some(5), comments: None };
        let first = Kept::default().changed(slow, AT);
        assert_eq!(first, Kept { rules: rules(5, Comments::Open), version: AT });
        let second = first.changed(Change { slow_seconds: None, comments: Some(Comments::Members) }, AT - 9);
        assert_eq!(second, Kept { rules: rules(5, Comments::Members), version: AT + 1 });
    }

    #[test]
    fn names_and_numbers_do_not_fit() {
        for comments in [Comments::Open, Comments::Members, Comments::Moderators] {
            assert_eq!(Comments::named(comments.name()), Some(comments));
            assert_eq!(Comments::of(i64::from(comments.number())), comments);
        }
        assert_eq!((Comments::named("Open"), Comments::of(9)), (None, Comments::Moderators));
    }
}
