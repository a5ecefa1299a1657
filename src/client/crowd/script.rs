//! What the crowd does and when, from a seed alone: reactions and comments as chance has it, many more of both after a
//! goal, and a talk in the chat.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::texts::Mood;

/// The share of likes and comments that comes in the bursts after goals.
const BURST_SHARE: f64 = 0.6;
/// A burst falls to a third in so many seconds.
const BURST_S: f64 = 2.0;
/// Seconds between messages in the chat, on average.
const MESSAGE_EVERY_S: f64 = 4.0;
/// How long somebody types, who says so at the begin and once more.
const TYPING_US: [u64; 2] = [2_500_000, 1_200_000];

/// A small fast generator (SplitMix64), good enough to spread a crowd.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    pub fn share(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// The time to the next of what happens on average every `mean_us`.
    pub fn wait_us(&mut self, mean_us: f64) -> u64 {
        (-self.share().ln() * mean_us) as u64
    }
}

/// One thing that the crowd does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A new member likes, with reaction number `dice`, as it were.
    Like { dice: u64 },
    /// A member says something.
    Comment { member: u32, dice: u64, wild: bool },
    /// Somebody in the chat types.
    Typing { chatter: u32 },
    /// Somebody in the chat has typed.
    Message { chatter: u32, dice: u64 },
}

impl Act {
    /// What kind of text it is.
    pub fn mood(self) -> Mood {
        match self {
            Act::Comment { wild: true, .. } => Mood::Wild,
            Act::Message { .. } => Mood::Chat,
            _ => Mood::Calm,
        }
    }
}

/// How busy the crowd is.
#[derive(Debug, Clone)]
pub struct Pace {
    pub members: u32,
    /// Who talks in the chat: members 0 to this.
    pub chatters: u32,
    /// A second, on average over the run once all have arrived.
    pub likes: f64,
    pub comments: f64,
    /// Over which they arrive, and when the script ends, in µs from its begin.
    pub arrive_us: u64,
    pub end_us: u64,
    pub goal_us: u64,
}

impl Pace {
    /// How many times the average rate of likes and comments it is at `at_us`.
    pub fn swell(&self, at_us: u64) -> f64 {
        let goal_s = self.goal_us as f64 / 1e6;
        let since_s = (at_us % self.goal_us.max(1)) as f64 / 1e6;
        // The first goal comes after a while of play.
        let burst = if at_us < self.goal_us { 0.0 } else { goal_s / BURST_S * (-since_s / BURST_S).exp() };
        let here = (at_us as f64 / self.arrive_us.max(1) as f64).min(1.0);
        here * (1.0 - BURST_SHARE + BURST_SHARE * burst)
    }

    fn swell_max(&self) -> f64 {
        1.0 - BURST_SHARE + BURST_SHARE * self.goal_us as f64 / 1e6 / BURST_S
    }

    fn is_wild(&self, at_us: u64) -> bool {
        self.swell(at_us) > 1.5
    }
}

/// The acts in the order of their times.
#[derive(Debug)]
pub struct Script {
    pace: Pace,
    chance: Chance,
    /// The next act of each kind: those that are likes, comments, and the talk.
    due: BinaryHeap<Reverse<(u64, Act)>>,
}

impl Script {
    /// A script that begins at time 0.
    pub fn new(pace: Pace, seed: u64) -> Self {
        let mut script = Self { pace, chance: Chance::new(seed), due: BinaryHeap::new() };
        script.plan_like(0);
        script.plan_comment(0);
        script.plan_talk(0);
        script
    }

    /// When the next act is due, in µs; `None` when the script is over.
    pub fn due_us(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at_us, _))| *at_us)
    }

    /// Takes the next act.
    pub fn take(&mut self) -> Option<Act> {
        let Reverse((at_us, act)) = self.due.pop()?;
        match act {
            Act::Like { .. } => self.plan_like(at_us),
            Act::Comment { .. } => self.plan_comment(at_us),
            Act::Message { .. } => self.plan_talk(at_us),
            Act::Typing { .. } => {}
        }
        Some(act)
    }

    /// The next time of what happens `rate` times a second on average and swells with the show: a Poisson process of
    /// the highest rate, thinned (Lewis and Shedler).
    fn next_us(&mut self, after_us: u64, rate: f64) -> Option<u64> {
        if rate <= 0.0 {
            return None;
        }
        let most = self.pace.swell_max();
        let mut at_us = after_us;
        while at_us < self.pace.end_us {
            at_us = at_us.saturating_add(self.chance.wait_us(1e6 / (rate * most)).max(1));
            if self.chance.share() * most <= self.pace.swell(at_us) {
                return (at_us < self.pace.end_us).then_some(at_us);
            }
        }
        None
    }

    fn plan_like(&mut self, after_us: u64) {
        let Some(at_us) = self.next_us(after_us, self.pace.likes) else { return };
        let dice = self.chance.number();
        self.due.push(Reverse((at_us, Act::Like { dice })));
    }

    fn plan_comment(&mut self, after_us: u64) {
        let Some(at_us) = self.next_us(after_us, self.pace.comments) else { return };
        let member = (self.chance.number() % u64::from(self.pace.members)) as u32;
        let (dice, wild) = (self.chance.number(), self.pace.is_wild(at_us));
        self.due.push(Reverse((at_us, Act::Comment { member, dice, wild })));
    }

    fn plan_talk(&mut self, after_us: u64) {
        if self.pace.chatters == 0 {
            return;
        }
        let at_us = after_us + TYPING_US[0] + self.chance.wait_us(MESSAGE_EVERY_S * 1e6);
        if at_us >= self.pace.end_us {
            return;
        }
        let chatter = (self.chance.number() % u64::from(self.pace.chatters)) as u32;
        for before_us in TYPING_US {
            self.due.push(Reverse((at_us - before_us, Act::Typing { chatter })));
        }
        let dice = self.chance.number();
        self.due.push(Reverse((at_us, Act::Message { chatter, dice })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace {
            members: 100,
            chatters: 5,
            likes: 200.0,
            comments: 4.0,
            arrive_us: 10_000_000,
            end_us: 210_000_000,
            goal_us: 20_000_000,
        }
    }

    fn play(pace: &Pace, seed: u64) -> Vec<(u64, Act)> {
        let mut script = Script::new(pace.clone(), seed);
        let mut all = Vec::new();
        while let Some(at_us) = script.due_us() {
            all.push((at_us, script.take().expect("one is due")));
        }
        all
    }

    #[test]
    fn one_seed_is_one_script_in_order() {
        let all = play(&pace(), 7);
        assert_eq!(all, play(&pace(), 7));
        assert_ne!(all, play(&pace(), 8));
        assert!(all.is_sorted_by_key(|(at_us, _)| *at_us));
        assert!(all.iter().all(|(at_us, _)| *at_us < pace().end_us));
    }

    #[test]
    fn rates_are_as_asked_on_average_and_swell_at_goals() {
        let all = play(&pace(), 1);
        let likes = |from_us: u64, to_us: u64| {
            let like = |act: &Act| matches!(act, Act::Like { .. });
            all.iter().filter(|(at_us, act)| (from_us..to_us).contains(at_us) && like(act)).count() as f64
        };
        // From the first goal on: 19 seconds' worth of each goal's 20 are in, with few thousand of chance.
        let average = likes(20_000_000, 200_000_000) / 180.0;
        assert!((180.0..220.0).contains(&average), "{average} likes a second");
        let (burst, calm) = (likes(40_000_000, 41_000_000), likes(58_000_000, 59_000_000));
        assert!(burst > 5.0 * calm, "{burst} after a goal, {calm} before the next");
        assert!(likes(0, 1_000_000) < likes(9_000_000, 10_000_000), "while they arrive there are fewer");
        let comments = all.iter().filter(|(_, act)| matches!(act, Act::Comment { .. })).count();
        assert!((500..1_100).contains(&comments), "{comments} comments");
        assert!(all.iter().any(|(_, act)| matches!(act, Act::Comment { wild: true, .. })));
    }

    #[test]
    fn who_writes_has_typed() {
        let all = play(&pace(), 3);
        let messages: Vec<_> = all
            .iter()
            .filter_map(|(at_us, act)| match act {
                Act::Message { chatter, .. } => Some((*at_us, *chatter)),
                _ => None,
            })
            .collect();
        assert!(messages.len() > 10);
        for (at_us, chatter) in messages {
            assert!(chatter < 5);
            let typing = (at_us - TYPING_US[0], Act::Typing { chatter });
            assert!(all.contains(&typing), "{at_us}");
        }
        let silent = Pace { chatters: 0, likes: 0.0, comments: 0.0, ..pace() };
        assert_eq!(play(&silent, 1), []);
    }
}
