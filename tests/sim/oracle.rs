//! What must hold of what clients saw, by the design and the README, whatever happened in between.

use std::collections::BTreeMap;

use fanfare::limits::HISTORY_EVENTS;

use crate::clients::{Acked, MILLISECOND, SECOND, Viewer};
use crate::faults::Fault;
use crate::world::{Client, UNIX, World};

/// A place in history as the stream's `id:` line has it, so that places of one topic can be compared.
fn place(text: &str) -> Option<(u64, u64)> {
    let (ms, number) = text.rsplit_once(':')?.1.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

fn unix_ms(at: u64) -> u64 {
    UNIX.as_millis() as u64 + at / MILLISECOND
}

/// All that is wrong with a world whose faults ended long enough ago.
pub fn judge(world: &mut World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut acked: BTreeMap<String, Vec<Acked>> = BTreeMap::new();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut count = |what, by| *counts.entry(what).or_default() += by;
    for (number, machine) in world.machines.iter().enumerate() {
        let (open, clients) = (world.fabric.lock().open_ends(number), world.clients.len());
        // A connection for each client, and a few to every other machine for each shard.
        let most = clients + 16 * world.plan.shards * world.machines.len();
        if open > most {
            wrong.push(format!(
                "machine {number}, {:?}, holds {open} connections, and {most} would be many",
                machine.role
            ));
        }
    }
    for client in &world.clients {
        if let Client::Publisher(publisher) = client {
            if !publisher.rests() {
                wrong.push(format!("publisher {} still waits for an answer", publisher.number));
            }
            count("acknowledged", publisher.acked.len() as u64);
            count("refusals", publisher.refused);
            for acked_one in &publisher.acked {
                acked.entry(acked_one.topic.clone()).or_default().push(acked_one.clone());
            }
        }
    }
    for client in &world.clients {
        if let Client::Viewer(viewer) = client {
            count("connects", viewer.connects);
            count("resumes", viewer.resumes);
            count("gaps", viewer.gaps.len() as u64);
            count("byes", viewer.byes);
            count("shown", viewer.shown.len() as u64);
            count("repeats", viewer.repeats);
            of_viewer(viewer, &acked, &world.plan.faults, &mut wrong);
        }
    }
    for (what, by) in counts {
        world.count(what, by);
    }
    wrong
}

fn of_viewer(
    viewer: &Viewer,
    acked: &BTreeMap<String, Vec<Acked>>,
    faults: &std::collections::BTreeSet<Fault>,
    wrong: &mut Vec<String>,
) {
    let name = format!("viewer {}", viewer.number);
    let lost = faults.contains(&Fault::Empty);
    wrong.extend(viewer.faults.iter().map(|fault| format!("{name}: {fault}")));
    if !viewer.is_connected {
        wrong.push(format!("{name} is not connected"));
    }
    for (at, topic, after) in viewer.gaps.iter().filter(|_| !faults.contains(&Fault::Empty)) {
        // History keeps so many events of a topic; who comes with an older place missed some.
        let since = place(after.trim_matches('"')).map_or(0, |(ms, _)| ms);
        let newer = acked.get(topic).map_or(0, |all| all.iter().filter(|event| unix_ms(event.begun) >= since).count());
        let notes = acked.get(topic).is_some_and(|all| all.iter().any(|event| event.kind == "note"));
        if newer < HISTORY_EVENTS as usize && !notes {
            wrong.push(format!(
                "{name} was told at {:.3} s of a gap in {topic} behind {after}, though the store lost nothing and {newer} events came since",
                *at as f64 / 1e9
            ));
        }
    }
    // What a store lost begins its places anew: order is that between two gaps.
    let mut last: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for shown in &viewer.shown {
        let topic = shown.id.split(' ').next().unwrap_or_default();
        let Some(now) = place(&shown.place) else {
            wrong.push(format!("{name}: {} came with the place {:?}", shown.id, shown.place));
            continue;
        };
        // A resume goes back a little further than where the client was, and so to before its first connection.
        if viewer.since.is_none_or(|since| now.0 <= unix_ms(since)) {
            continue;
        }
        let before = last.insert(topic, (&shown.id, &shown.place));
        let ordered = before.is_none_or(|(_, before)| place(before).is_none_or(|before| before < now));
        if !ordered && !faults.contains(&Fault::Empty) {
            wrong.push(format!("{name}: {} at {} came behind {before:?}", shown.id, shown.place));
        }
    }
    let Some(since) = viewer.since else { return };
    for topic in &viewer.topics {
        let last_gap = viewer.gaps.iter().filter(|(_, of, _)| of == topic || of.is_empty()).map(|(at, ..)| *at).max();
        let messages = acked.get(topic).map_or(0, |all| all.iter().filter(|event| event.kind == "message").count());
        for event in acked.get(topic).into_iter().flatten() {
            let id = format!("{topic} {}", event.id);
            // What history keeps is shown whatever else is gone: a gap excuses no more than what could be lost.
            let may_be_lost = lost || event.kind == "note" || messages > HISTORY_EVENTS as usize;
            let is_told = may_be_lost && last_gap.is_some_and(|at| at + SECOND >= event.begun);
            if event.begun > since && !is_told && !viewer.seen.contains(&id) {
                wrong.push(format!(
                    "{name}, connected since {:.3} s, never saw {id}, which was sent at {:.3} s ({} attempts) and acknowledged",
                    since as f64 / 1e9,
                    event.begun as f64 / 1e9,
                    event.attempts
                ));
            }
        }
    }
}
