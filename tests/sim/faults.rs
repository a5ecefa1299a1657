//! What befalls a simulated cluster, drawn from a stream of chance of its own.

use fanfare::settings::Role;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::Weather;
use crate::world::{Event, World};

/// A kind of fault; each can be switched off by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A Frontend is killed, and starts again.
    Frontend,
    /// A Dispatcher is killed, and starts again.
    Dispatcher,
    /// A process is stopped for seconds, and goes on.
    Pause,
    /// The store answers nothing for seconds.
    Outage,
    /// The store comes back empty.
    Empty,
    /// One machine does not hear of another, in one direction.
    Cut,
    /// Bytes are late, and come in pieces.
    Weather,
    /// A machine's wall clock jumps.
    Clock,
}

pub const ALL: [Fault; 8] = [
    Fault::Frontend,
    Fault::Dispatcher,
    Fault::Pause,
    Fault::Outage,
    Fault::Empty,
    Fault::Cut,
    Fault::Weather,
    Fault::Clock,
];

/// Those by which nodes lose nothing of each other.
pub const CALM: [Fault; 2] = [Fault::Weather, Fault::Clock];

/// One fault happens, if the plan has it, and the next one is planned. Chance is drawn for all alike, so that switching one
/// off leaves the rest as it was.
pub fn happen(world: &mut World) {
    let draw = [0; 5].map(|_: u64| world.chance.number());
    let mut picks = draw[2];
    let until = world.plan.seconds * SECOND;
    let next = world.now + 500 * MILLISECOND + draw[0] % (4 * SECOND);
    if next < until {
        world.at(next, Event::Fault);
    }
    let fault = ALL[(draw[1] % ALL.len() as u64) as usize];
    let number = world.draws;
    world.draws += 1;
    if !world.plan.faults.contains(&fault) || world.plan.without.befalls.contains(&number) {
        return;
    }
    world.befell.push((number, world.now, fault));
    let roles: Vec<Role> = world.machines.iter().map(|machine| machine.role).collect();
    let mut pick = |wanted: Option<Role>| {
        let of = |number: &usize| wanted.is_none_or(|wanted| roles[*number] == wanted);
        let all: Vec<usize> = (0..roles.len()).filter(of).collect();
        let picked = all[(picks % all.len() as u64) as usize];
        picks /= 16;
        picked
    };
    let lasts = 200 * MILLISECOND + draw[3] % (8 * SECOND);
    match fault {
        Fault::Frontend | Fault::Dispatcher => {
            let role = if fault == Fault::Frontend { Role::Frontend } else { Role::Dispatcher };
            let number = pick(Some(role));
            if world.machines[number].node.is_some() {
                world.say(|| format!("machine {number} is killed"));
                world.crash(number);
                world.disturb(world.now + lasts);
                world.count("crashes", 1);
                world.at(world.now + lasts, Event::Start(number));
            }
        }
        Fault::Pause => {
            let number = pick(None);
            world.say(|| format!("machine {number} stops for {} ms", lasts / MILLISECOND));
            world.machines[number].paused_until = world.now + lasts;
            // Nobody misses a node that is back before its lease ends.
            if lasts > 3 * SECOND {
                world.disturb(world.now + lasts);
            }
            world.count("pauses", 1);
        }
        Fault::Outage => {
            world.say(|| format!("the store is away for {} ms", lasts / MILLISECOND));
            let until = world.now + lasts;
            world.store.lock().outage(until);
            world.disturb(until);
            world.count("outages", 1);
        }
        Fault::Empty => {
            world.say(|| "the store is back empty".to_owned());
            world.store.lock().empty();
            world.disturb(world.now);
            world.count("emptied", 1);
        }
        Fault::Cut => {
            let (from, to) = (pick(None), pick(None));
            if from != to {
                world.say(|| format!("machine {to} hears nothing of {from}"));
                world.fabric.lock().cut(from, to);
                world.count("cuts", 1);
            }
            if draw[4] % 2 == 0 {
                world.say(|| "all cuts heal".to_owned());
                if world.fabric.lock().heal() {
                    world.disturb(world.now);
                }
            }
        }
        Fault::Weather => {
            let weather =
                Weather { short: draw[4] % 300, jitter: [0, 1, 20, 200][(draw[3] % 4) as usize] * MILLISECOND };
            world.say(|| format!("{weather:?}"));
            world.fabric.lock().weather = weather;
            world.count("weathers", 1);
        }
        Fault::Clock => {
            let number = pick(None);
            let jump = (draw[4] % 20_000) as i64 - 10_000;
            world.say(|| format!("machine {number}'s clock jumps to {jump} ms"));
            world.machines[number].clock.store(jump, std::sync::atomic::Ordering::Relaxed);
            world.count("clock jumps", 1);
        }
    }
}
