//! What befalls a simulated cluster, drawn from a stream of chance of its own.

use fanfare::db::sqlite::Befalls;
use fanfare::settings::Role;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::Weather;
use crate::world::{Event, World};

/// A kind of fault; each can be switched off by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A Frontend is killed, or told to end, and starts again.
    Frontend,
    /// A Dispatcher is, likewise.
    Dispatcher,
    /// A backend is, likewise.
    Backend,
    /// A process is stopped for seconds, and goes on.
    Pause,
    /// The store answers nothing for seconds.
    Outage,
    /// The store comes back empty.
    Empty,
    /// One machine does not hear of another, in one direction.
    Cut,
    /// Data centers do not hear of each other, in one direction or both.
    Split,
    /// Bytes are late, and come in pieces.
    Weather,
    /// A machine's wall clock jumps.
    Clock,
    /// The database's disk has room for nothing new.
    Full,
    /// Commits fail.
    Commit,
    /// Commits are said to have failed, and have not.
    Answer,
    /// The database is slow.
    Slow,
    /// Somebody else holds the database's lock.
    Locked,
}

pub const ALL: [Fault; 15] = [
    Fault::Frontend,
    Fault::Dispatcher,
    Fault::Backend,
    Fault::Pause,
    Fault::Outage,
    Fault::Empty,
    Fault::Cut,
    Fault::Split,
    Fault::Weather,
    Fault::Clock,
    Fault::Full,
    Fault::Commit,
    Fault::Answer,
    Fault::Slow,
    Fault::Locked,
];

/// Those by which nodes lose nothing of each other.
pub const CALM: [Fault; 7] =
    [Fault::Weather, Fault::Clock, Fault::Full, Fault::Commit, Fault::Answer, Fault::Slow, Fault::Locked];

/// One fault happens, if the plan has it, and the next one is planned. Chance is drawn for all alike, so that switching one
/// off leaves the rest as it was.
pub fn happen(world: &mut World) {
    let draw = [0; 5].map(|_: u64| world.chance.number());
    let mut picks = draw[2];
    let until = world.plan.seconds * SECOND;
    let pause = 500 * MILLISECOND + draw[0] % (4 * SECOND);
    let next = world.now + if world.plan.hurries { pause / 4 } else { pause };
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
        let picked = all.get((picks % all.len().max(1) as u64) as usize).copied();
        picks /= 16;
        picked
    };
    let mut one = || pick(None).expect("there are machines");
    let dc = (draw[2] >> 32) as usize % world.plan.data_centers;
    let lasts = 200 * MILLISECOND + draw[3] % (8 * SECOND);
    match fault {
        Fault::Frontend | Fault::Dispatcher | Fault::Backend => {
            let role = match fault {
                Fault::Frontend => Role::Frontend,
                Fault::Dispatcher => Role::Dispatcher,
                _ => Role::Backend,
            };
            let running = |number: &usize| world.machines[*number].node.is_some();
            if let Some(number) = pick(Some(role)).filter(running) {
                if draw[4] % 3 == 0 {
                    world.say(|| format!("machine {number} is told to end"));
                    world.disturb(world.now);
                    world.at(world.now, Event::End(number, world.machines[number].life));
                    return;
                }
                world.say(|| format!("machine {number} is killed"));
                world.crash(number);
                world.disturb(world.now + lasts);
                world.count("crashes", 1);
                world.at(world.now + lasts, Event::Start(number));
            }
        }
        Fault::Pause => {
            let number = one();
            world.say(|| format!("machine {number} stops for {} ms", lasts / MILLISECOND));
            world.machines[number].paused_until = world.now + lasts;
            // Nobody misses a node that is back before its lease ends.
            if lasts > 3 * SECOND {
                world.disturb(world.now + lasts);
            }
            world.count("pauses", 1);
        }
        Fault::Outage => {
            world.say(|| format!("the store of {dc} is away for {} ms", lasts / MILLISECOND));
            let until = world.now + lasts * [1, 1, 3][(draw[4] % 3) as usize];
            world.stores[dc].lock().outage(until);
            world.disturb(until);
            world.count("outages", 1);
        }
        Fault::Empty => {
            world.say(|| format!("the store of {dc} is back empty"));
            world.stores[dc].lock().empty();
            world.disturb(world.now);
            world.count("emptied", 1);
        }
        Fault::Cut => {
            let (from, to) = (one(), one());
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
        Fault::Split if world.plan.data_centers > 1 => {
            let (other, both) = ((dc + 1) % world.plan.data_centers, draw[4] % 2 == 0);
            world.say(|| {
                format!(
                    "data center {other} hears nothing of {dc}, {}",
                    if both { "nor it of that" } else { "and it of that" }
                )
            });
            let of = |dc| {
                world.machines.iter().enumerate().filter(move |(_, machine)| machine.dc == dc).map(|(number, _)| number)
            };
            let mut fabric = world.fabric.lock();
            for (from, to) in of(dc).flat_map(|from| of(other).map(move |to| (from, to))) {
                fabric.cut(from, to);
                if both {
                    fabric.cut(to, from);
                }
            }
            drop(fabric);
            world.count("splits", 1);
        }
        Fault::Split => {}
        Fault::Weather => {
            let weather =
                Weather { short: draw[4] % 300, jitter: [0, 1, 20, 200][(draw[3] % 4) as usize] * MILLISECOND };
            world.say(|| format!("{weather:?}"));
            world.fabric.lock().weather = weather;
            world.count("weathers", 1);
        }
        Fault::Clock => {
            let number = one();
            let jump = (draw[4] % 20_000) as i64 - 10_000;
            world.say(|| format!("machine {number}'s clock jumps to {jump} ms"));
            world.machines[number].clock.store(jump, std::sync::atomic::Ordering::Relaxed);
            world.count("clock jumps", 1);
        }
        Fault::Full | Fault::Commit | Fault::Answer => {
            let befalls = match fault {
                Fault::Full => Befalls::Full,
                Fault::Commit => Befalls::Fails,
                _ => Befalls::AnswerLost,
            };
            world.say(|| format!("the database of {dc} for {} ms: {befalls:?}", lasts / MILLISECOND));
            let until = world.now + lasts;
            world.disks.get_mut(dc).into_iter().for_each(|disk| disk.befalls = (befalls, until));
        }
        Fault::Slow => {
            world.say(|| format!("the database of {dc} is slow for {} ms", lasts / MILLISECOND));
            let slow = ([20, 200, 3000][(draw[4] % 3) as usize] * MILLISECOND, world.now + lasts);
            world.disks.get_mut(dc).into_iter().for_each(|disk| disk.slow = slow);
        }
        Fault::Locked => {
            world.say(|| format!("the database of {dc} is locked for {} ms", lasts / MILLISECOND));
            let until = world.now + lasts;
            world.disks.get_mut(dc).into_iter().for_each(|disk| disk.locked_until = until);
        }
    }
}
