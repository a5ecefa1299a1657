//! What must hold of what clients saw, by the design and the README, whatever happened in between.

use std::collections::BTreeMap;

use fanfare::limits::HISTORY_EVENTS;

use crate::clients::{MILLISECOND, SECOND};
use crate::faults::Fault;
use crate::publisher::Acked;
use crate::viewer::{Stream, Viewer};
use crate::world::{Client, UNIX, World};

/// A place in history as the stream's `id:` line has it, so that places of one topic can be compared.
fn place(text: &str) -> Option<(u64, u64)> {
    let (ms, number) = text.rsplit_once(':')?.1.split_once('-')?;
    Some((ms.parse().ok()?, number.parse().ok()?))
}

fn unix_ms(at: u64) -> u64 {
    UNIX.as_millis() as u64 + at / MILLISECOND
}

/// What publishers had acknowledged, by topic.
fn acked(world: &World) -> BTreeMap<String, Vec<Acked>> {
    let mut acked: BTreeMap<String, Vec<Acked>> = BTreeMap::new();
    for client in &world.clients {
        if let Client::Publisher(publisher) = client {
            for event in &publisher.acked {
                acked.entry(event.topic.clone()).or_default().push(event.clone());
            }
        }
    }
    acked
}

/// What viewers lack although nobody publishes any more: the next event would show them that something is missing.
pub fn lacking(world: &World) -> Vec<String> {
    let (acked, mut wrong) = (acked(world), Vec::new());
    for client in &world.clients {
        if let Client::Viewer(viewer) = client {
            missing(viewer, &acked, &world.plan.faults, &mut wrong);
        }
    }
    wrong
}

/// All that is wrong with a world whose faults ended long enough ago.
pub fn judge(world: &mut World) -> Vec<String> {
    let mut wrong = Vec::new();
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
        }
    }
    let acked = acked(world);
    for client in &world.clients {
        if let Client::Viewer(viewer) = client {
            count("connects", viewer.connects);
            count("resumes", viewer.resumes);
            count("gaps", viewer.gaps.len() as u64);
            count("byes", viewer.byes);
            count("shown", viewer.shown.len() as u64);
            count("repeats", viewer.repeats);
            of_viewer(viewer, &acked, &world.plan.faults, &mut wrong);
            for (number, stream) in viewer.streams.iter().enumerate() {
                let is_last = number + 1 == viewer.streams.len();
                count("sums", stream.sums.len() as u64);
                count("newest", stream.latest.len() as u64);
                of_stream(viewer, stream, is_last, &acked, world, &mut wrong);
            }
        }
    }
    for (what, by) in counts {
        world.count(what, by);
    }
    wrong
}

/// Those of class `every`.
fn of_every(all: &[Acked]) -> impl Iterator<Item = &Acked> {
    all.iter().filter(|event| event.kind == "message" || event.kind == "note")
}

/// Counts of class `sum` are exact while the nodes that hold them live, and who is connected at the end has the newest of
/// class `latest`.
fn of_stream(
    viewer: &Viewer,
    stream: &Stream,
    is_last: bool,
    acked: &BTreeMap<String, Vec<Acked>>,
    world: &World,
    wrong: &mut Vec<String>,
) {
    let name = format!("viewer {}", viewer.number);
    let lost = world.plan.faults.contains(&Fault::Empty);
    // From when on nothing may be lost: of all classes 2 s after the start of a stream, where nodes had time to find each
    // other again.
    let calm = world.disturbed.map_or(0, |at| at + 15 * SECOND);
    let since = stream.since.filter(|_| is_last).map(|since| calm.max(since + 2 * SECOND));
    // What may be shown, what must, and the newest, by topic, type and key.
    let mut wanted: BTreeMap<(&str, &str, &str), (u64, u64, u64)> = BTreeMap::new();
    for event in viewer.topics.iter().filter_map(|topic| acked.get(topic)).flatten() {
        let Some(key) = &event.key else { continue };
        let (most, least, newest) = wanted.entry((&event.topic, event.kind, key)).or_default();
        *most += if event.once && !lost { 1 } else { event.attempts };
        *least += u64::from(since.is_some_and(|since| event.begun > since));
        *newest = event.number.max(*newest);
    }
    for ((topic, kind, key), (most, least, newest)) in wanted {
        let (topic_, key_) = (topic.to_owned(), key.to_owned());
        if kind == "score" {
            let shown = stream.latest.get(&(topic_, key_)).copied();
            if least > 0 && shown != Some(newest) {
                wrong.push(format!("{name} has {shown:?} as the newest {key} of {topic}, which is {newest}"));
            }
            continue;
        }
        let shown = stream.sums.get(&(topic_, kind.to_owned(), key_)).copied().unwrap_or(0);
        if shown > most || shown < least {
            wrong.push(format!(
                "{name}, connected since {:?} ns, was shown {shown} of {kind} {key} in {topic}: {least} to {most} were sent to it",
                stream.since
            ));
        }
    }
}

fn of_viewer(
    viewer: &Viewer,
    acked: &BTreeMap<String, Vec<Acked>>,
    faults: &std::collections::BTreeSet<Fault>,
    wrong: &mut Vec<String>,
) {
    let name = format!("viewer {}", viewer.number);
    wrong.extend(viewer.faults.iter().map(|fault| format!("{name}: {fault}")));
    if !viewer.is_connected {
        wrong.push(format!("{name} is not connected"));
    }
    for (at, topic, after) in viewer.gaps.iter().filter(|_| !faults.contains(&Fault::Empty)) {
        // History keeps so many events of a topic; who comes with an older place missed some.
        let since = place(after.trim_matches('"')).map_or(0, |(ms, _)| ms);
        let newer =
            acked.get(topic).map_or(0, |all| of_every(all).filter(|event| unix_ms(event.begun) >= since).count());
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
    missing(viewer, acked, faults, wrong);
}

/// Every acknowledged event is seen, or a gap tells of it.
fn missing(
    viewer: &Viewer,
    acked: &BTreeMap<String, Vec<Acked>>,
    faults: &std::collections::BTreeSet<Fault>,
    wrong: &mut Vec<String>,
) {
    let name = format!("viewer {}", viewer.number);
    let lost = faults.contains(&Fault::Empty);
    let Some(since) = viewer.since else { return };
    for topic in &viewer.topics {
        let last_gap = viewer.gaps.iter().filter(|(_, of, _)| of == topic || of.is_empty()).map(|(at, ..)| *at).max();
        let messages = acked.get(topic).map_or(0, |all| all.iter().filter(|event| event.kind == "message").count());
        for event in acked.get(topic).into_iter().flat_map(|all| of_every(all)) {
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
