//! What must hold of what clients saw, by the design and docs/delivery.md, whatever happened in between.

pub mod canaries;
pub mod hooks;
mod paced;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use fanfare::limits::{HISTORY_EVENTS, RESUME_SKEW_MS};
use fanfare::wire::event::DELETED_SUFFIX;

use crate::clients::{MILLISECOND, SECOND};
use crate::faults::Fault;
use crate::publisher::Acked;
use crate::viewer::{MEMBERS, Stream, Viewer, covers, since_of};
use crate::world::{Client, Plan, SLOW_VIDEO, UNIX, World, dc_name};

/// What places of one topic in one data center are compared by.
type Place = (u64, u64);

/// So often may a store that nothing befalls give a turn of a member: who was given it may not have said yet that it is told.
const TURN_GIVEN: u32 = 2;

/// A place in history as the stream's `id:` line has it: its data center, and where there it is.
fn place(text: &str) -> Option<(&str, Place)> {
    let (dc, place) = text.rsplit_once(':')?;
    let (ms, number) = place.split_once('-')?;
    Some((dc, (ms.parse().ok()?, number.parse().ok()?)))
}

/// Whether it lies between events, as an id that promises less than its event's own place would.
fn is_floor(place: Place) -> bool {
    place.1 == 0
}

/// Of one topic, type and key.
#[derive(Default)]
struct Wanted {
    /// So much may be shown.
    most: u64,
    /// So much must.
    least: u64,
    /// The number of the newest, and when it was sent.
    newest: (u64, u64),
}

/// A world, and what was sent in it.
struct Case<'a> {
    world: &'a World,
    /// What publishers had acknowledged, and what the databases have, by topic.
    sent: BTreeMap<String, Vec<Acked>>,
    /// What of a type with a pace is for all.
    noted: BTreeSet<&'a str>,
    /// Stores lost something.
    lost: bool,
    /// From when on nothing may be lost: nodes had time to find each other again.
    calm: u64,
    wrong: Vec<String>,
}

/// What viewers lack although nobody publishes any more: the next event would show them that something is missing.
pub fn lacking(world: &World) -> Vec<String> {
    let mut case = Case::new(world);
    for viewer in world.present().filter_map(Client::viewer).filter(|viewer| !viewer.is_retired) {
        case.missing(viewer);
        case.total(viewer);
        case.totals(viewer);
        case.rules(viewer);
        case.presence(viewer);
        case.viewers(viewer);
    }
    case.wrong
}

/// What is wrong with counts of viewers, and with totals of likes, long enough after some went or a Frontend died.
pub fn counted(world: &World) -> Vec<String> {
    let mut case = Case::new(world);
    for viewer in world.present().filter_map(Client::viewer) {
        case.viewers(viewer);
        case.totals(viewer);
        case.rules(viewer);
    }
    case.wrong
}

/// All that is wrong with a world whose faults ended long enough ago.
pub fn judge(world: &mut World) -> Vec<String> {
    let mut case = Case::new(world);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut count = |what, by| *counts.entry(what).or_default() += by;
    case.connections();
    for client in world.present() {
        match client {
            Client::Publisher(publisher) => {
                if !publisher.rests() {
                    case.wrong.push(format!("publisher {} still waits for an answer", publisher.number));
                }
                count("acknowledged", publisher.acked.len() as u64);
                count("refusals", publisher.refused);
            }
            Client::Poster(poster) => {
                if !poster.rests() {
                    case.wrong.push(format!("member {} still waits for an answer", poster.number));
                }
                case.wrong.extend(poster.faults.iter().cloned());
                count("deeds", poster.done.len() as u64);
                count("refused deeds", poster.refused);
                count("barred", poster.done.iter().filter(|done| done.is_barred).count() as u64);
            }
            Client::Viewer(viewer) => {
                count("connects", viewer.connects);
                count("resumes", viewer.resumes);
                count("gaps", viewer.gaps.len() as u64);
                count("byes", viewer.byes);
                count("shown", viewer.shown.len() as u64);
                let floors =
                    viewer.shown.iter().filter_map(|shown| place(&shown.place)).filter(|(_, at)| is_floor(*at));
                count("doubtful ids", floors.count() as u64);
                count("repeats", viewer.repeats);
                count("changes of streams", viewer.changes);
                count("rights lost", viewer.rights_lost);
                count("strays", viewer.strays.len() as u64);
                count("left out", viewer.left_out.len() as u64);
                case.viewer(viewer);
                case.paced(viewer);
                for (number, stream) in viewer.streams.iter().enumerate() {
                    count("sums", stream.sums.len() as u64);
                    count("newest", stream.latest.len() as u64);
                    case.stream(viewer, stream, number + 1 == viewer.streams.len());
                }
            }
        }
    }
    world.disks.iter().flat_map(|disk| &disk.batches).for_each(|(what, by)| count(what, *by));
    for store in &world.stores {
        let store = store.lock();
        store.kinds.iter().for_each(|(what, by)| count(what, *by));
        let again = store.turns.iter().filter(|(_, times)| **times > TURN_GIVEN);
        case.wrong.extend(again.map(|((member, _), times)| format!("a turn of {member} was given {times} times")));
    }
    let mut wrong = case.wrong;
    wrong.extend(hooks::judge(world));
    for (what, by) in counts {
        world.count(what, by);
    }
    wrong
}

/// Those of class `every`.
fn of_every(all: &[Acked]) -> impl Iterator<Item = &Acked> {
    all.iter().filter(|event| is_of_every(event))
}

fn is_of_every(event: &Acked) -> bool {
    matches!(event.kind, "message" | "note" | "comment" | "deleted")
}

impl<'a> Case<'a> {
    fn new(world: &'a World) -> Case<'a> {
        let (mut sent, mut wrong): (BTreeMap<String, Vec<Acked>>, Vec<String>) = Default::default();
        let publishers = world.present().filter_map(|client| match client {
            Client::Publisher(publisher) => Some(publisher),
            _ => None,
        });
        let dc = |number: usize| world.homes[number];
        let acked = publishers.flat_map(|publisher| {
            publisher.acked.iter().map(move |event| Acked { dc: dc(publisher.number), ..event.clone() })
        });
        for event in acked.chain(stored::judge(world, &mut wrong)) {
            sent.entry(event.topic.clone()).or_default().push(event);
        }
        let calm = world.disturbed.map_or(0, |at| at + 15 * SECOND);
        let noted = paced::shown(world);
        // What waits for another data center is in no database.
        let is_kept = world.plan.kept && world.plan.data_centers == 1;
        let lost = world.plan.faults.contains(&Fault::Empty) && !is_kept;
        Case { world, sent, noted, lost, calm, wrong }
    }

    fn of(&self, topic: &str) -> &[Acked] {
        self.sent.get(topic).map_or(&[], Vec::as_slice)
    }

    /// All that was sent to a viewer's topics.
    fn sent_to<'v>(&'v self, viewer: &'v Viewer) -> impl Iterator<Item = &'v Acked> {
        self.watched(viewer).flat_map(|topic| self.of(topic))
    }

    /// The topics that a viewer watches and something was sent to.
    fn watched<'v>(&'v self, viewer: &'v Viewer) -> impl Iterator<Item = &'v String> {
        self.sent.keys().filter(|topic| viewer.watches(topic))
    }

    /// A time of the world on the clock of a data center's store, in Unix ms.
    fn unix_ms(&self, dc: &str, at: u64) -> u64 {
        let ahead = (0..self.world.stores.len()).find(|number| dc_name(*number) == dc);
        let ahead = ahead.map_or(0, |number| self.world.stores[number].lock().ahead_ms);
        (UNIX.as_millis() as u64 + at / MILLISECOND).saturating_add_signed(ahead)
    }

    fn connections(&mut self) {
        let world = self.world;
        for (number, machine) in world.machines.iter().enumerate() {
            if machine.node.as_ref().is_some_and(|node| node.draining.load(Ordering::Relaxed)) {
                self.wrong.push(format!("machine {number}, {:?}, was told to end and does not", machine.role));
            }
            let (open, clients) = (world.fabric.lock().open_ends(number), world.clients.len());
            // A connection for each client, and a few to every other machine for each shard.
            let most = clients + 16 * world.plan.shards * world.machines.len();
            if open > most {
                self.wrong.push(format!(
                    "machine {number}, {:?}, holds {open} connections, and {most} would be many",
                    machine.role
                ));
            }
        }
    }

    /// Counts of class `sum` are exact while the nodes that hold them live, and who is connected at the end has the newest of
    /// class `latest`. Of class `every` each event comes once.
    fn stream(&mut self, viewer: &Viewer, stream: &Stream, is_last: bool) {
        let name = format!("viewer {}", viewer.number);
        let mut wrong = Vec::new();
        // Of all classes 2 s after a topic came to a stream, for as long as it is watched.
        let since = |topic: &str| {
            let is_watched = is_last && since_of(&viewer.since, topic).is_some() && !viewer.is_retired;
            since_of(&stream.since, topic).filter(|_| is_watched).map(|since| self.calm.max(since + 2 * SECOND))
        };
        // By topic, type and key.
        let mut wanted: BTreeMap<(&str, &str, &str), Wanted> = BTreeMap::new();
        for event in self.sent_to(viewer) {
            let once = event.once && !self.lost;
            // Of a like through a database the id here is whose it is.
            let alone = stream.likers.get(&(event.topic.clone(), event.id.clone())).copied().unwrap_or(0);
            // Where some of those that merged on their way from another data center were here before, the rest is told with the
            // newest one's data.
            if alone > event.attempts && self.world.plan.data_centers == 1 {
                wrong.push(format!("{name} was told {alone} times that {} likes {}", event.id, event.topic));
            }
            let Some(key) = &event.key else {
                let shown = stream.every.get(&format!("{} {}", event.topic, event.id)).copied().unwrap_or(0);
                let again = |(asked, at): &&(String, u64)| covers(asked, &event.topic) && event.begun < *at;
                let sent = if once || event.begun > self.calm { 1 } else { event.attempts };
                let most = sent.saturating_add(stream.asked.iter().filter(again).count() as u64);
                if shown > most && !self.lost {
                    wrong.push(format!("{name} was shown {shown} times {} of {}, which is one", event.id, event.topic));
                }
                continue;
            };
            let wanted = wanted.entry((&event.topic, event.kind, key)).or_default();
            wanted.most += if once { 1 } else { event.attempts };
            wanted.least += u64::from(since(&event.topic).is_some_and(|since| event.begun > since));
            wanted.newest = (event.number, event.begun).max(wanted.newest);
        }
        for ((topic, kind, key), Wanted { most, least, newest: (newest, begun) }) in wanted {
            let (topic_, key_) = (topic.to_owned(), key.to_owned());
            if kind == "score" {
                let shown = stream.latest.get(&(topic_, key_)).copied();
                // At once, where it was there before the stream, but of a prefix's topics, which come with their next event.
                let is_due = since(topic).is_some_and(|since| stream.since.contains_key(topic) || begun > since);
                if is_due && begun > self.calm && shown != Some(newest) {
                    wrong.push(format!("{name} has {shown:?} as the newest {key} of {topic}, which is {newest}"));
                }
                continue;
            }
            let shown = stream.sums.get(&(topic_, kind.to_owned(), key_)).copied().unwrap_or(0);
            if shown > most || shown < least {
                wrong.push(format!(
                    "{name} was shown {shown} of {kind} {key} in {topic}, which it watches since {:?} ns: {least} to {most} were sent to it",
                    since_of(&stream.since, topic)
                ));
            }
        }
        self.wrong.extend(wrong);
    }

    fn viewer(&mut self, viewer: &Viewer) {
        let name = format!("viewer {}", viewer.number);
        let mut wrong: Vec<String> = viewer.faults.iter().map(|fault| format!("{name}: {fault}")).collect();
        if !viewer.is_connected && !viewer.is_retired {
            wrong.push(format!("{name} is not connected"));
        }
        // A data center that is younger than what may have happened on the way from another cannot know.
        for (at, topic, after) in viewer.gaps.iter().filter(|_| !self.lost && !viewer.roams) {
            // Who names a topic of its prefix later is told of what it may lack of it by the prefix.
            if viewer.all.iter().any(|mine| mine != topic && covers(mine, topic)) {
                continue;
            }
            // History keeps so many events of a topic; who comes with an older place missed some. Of several topics, another one's
            // event may have been ahead of what is missing.
            let (dc, since) = place(after.trim_matches('"')).map_or(("", 0), |(dc, (ms, _))| (dc, ms));
            let of: Vec<&Acked> =
                self.sent.iter().filter(|(of, _)| covers(topic, of)).flat_map(|(_, all)| all).collect();
            let every = of.iter().filter(|event| is_of_every(event));
            let skew_ms = if viewer.all.len() == 1 { 0 } else { RESUME_SKEW_MS };
            let newer = every.filter(|event| self.unix_ms(dc, event.begun) + skew_ms >= since).count();
            let notes = of.iter().any(|event| event.kind == "note");
            if newer < HISTORY_EVENTS as usize && !notes {
                wrong.push(format!(
                    "{name} was told at {:.3} s of a gap in {topic} behind {after}, though the store lost nothing and {newer} events came since",
                    *at as f64 / 1e9
                ));
            }
        }
        let all = viewer.all.iter().flat_map(|topic| self.of(topic));
        let sent: BTreeMap<String, u64> =
            all.map(|event| (format!("{} {}", event.topic, event.id), event.begun)).collect();
        let mut last: BTreeMap<(&str, &str), (&str, Place)> = BTreeMap::new();
        let mut posts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let Plan { backends, faults, .. } = &self.world.plan;
        let breaks = [Fault::Backend, Fault::Answer, Fault::Empty];
        let in_order = *backends == 1 && !breaks.iter().any(|fault| faults.contains(fault));
        for shown in &viewer.shown {
            let topic = shown.id.split(' ').next().unwrap_or_default();
            let Some((dc, now)) = place(&shown.place) else {
                wrong.push(format!("{name}: {} came with the place {:?}", shown.id, shown.place));
                continue;
            };
            let begun = sent.get(&shown.id).copied().unwrap_or(0);
            // A resume goes back a little further than where the client was, and so to before its first connection. An id that
            // promises less says nothing of its event's own place.
            let came = if is_floor(now) { self.unix_ms(dc, begun) } else { now.0 };
            if viewer.roams || since_of(&viewer.since, topic).is_none_or(|since| came <= self.unix_ms(dc, since)) {
                continue;
            }
            // What a gap told of may come later, with what the next resume goes back.
            let tells = |at: u64, of: &str| (covers(of, topic) || of.is_empty()) && (begun..=shown.at).contains(&at);
            let is_told = viewer.gaps.iter().any(|(at, of, _)| tells(*at, of));
            // One backend tells of a place's posts in the order in which it stored them, where it knows that it did. A dispatcher
            // that was asleep tells again of what another told since, which is new to who came in between.
            let post = shown.id.rsplit(' ').next().filter(|id| !id.ends_with(DELETED_SUFFIX));
            let post = post.and_then(|id| id.split_once('-'));
            let since = since_of(&viewer.since, topic).unwrap_or(0);
            if let Some((number, database)) = post.filter(|_| in_order && begun > since)
                && let Ok(number) = number.parse()
                && let Some(before) = posts.insert((topic, database), number)
                && before > number
                && !is_told
            {
                wrong.push(format!("{name}: {} came behind {before}", shown.id));
            }
            if is_floor(now) {
                continue;
            }
            let before = last.get(&(topic, dc)).copied();
            if before.is_none_or(|(_, before)| before < now) || self.lost {
                last.insert((topic, dc), (&shown.id, now));
            } else if !is_told {
                wrong.push(format!("{name}: {} at {} came behind {before:?}", shown.id, shown.place));
            }
        }
        for stray in &viewer.strays {
            // Of what merged, or a node tells by itself, nobody knows when it was sent.
            if let Some(begun) = sent.get(&stray.id).filter(|begun| **begun > stray.until) {
                let (begun, until) = (*begun as f64 / 1e9, stray.until as f64 / 1e9);
                wrong.push(format!(
                    "{name} was shown {}, sent at {begun:.3} s, which {} from {until:.3} s on",
                    stray.id, stray.why
                ));
            }
        }
        let unsent = viewer
            .seen
            .iter()
            .filter(|id| !sent.contains_key(*id))
            .map(|id| format!("{name} was shown {id}, which nobody sent"));
        wrong.extend(unsent);
        self.wrong.extend(wrong);
        if !viewer.is_retired {
            self.missing(viewer);
        }
    }

    /// Every acknowledged event is seen, or a gap tells of it.
    fn missing(&mut self, viewer: &Viewer) {
        let name = format!("viewer {}", viewer.number);
        let mut wrong = Vec::new();
        for topic in self.watched(viewer) {
            let Some(since) = since_of(&viewer.since, topic) else { continue };
            let gaps = viewer.gaps.iter().filter(|(_, of, _)| covers(of, topic) || of.is_empty());
            let last_gap = gaps.map(|(at, ..)| *at).max();
            let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
            self.of(topic).iter().for_each(|event| *kinds.entry(event.kind).or_default() += 1);
            for event in of_every(self.of(topic)) {
                // What waits for another data center is lost with the store, and nobody there knows.
                if self.lost
                    && event.begun <= self.calm
                    && (viewer.roams || event.dc != self.world.homes[viewer.number])
                {
                    continue;
                }
                let id = format!("{topic} {}", event.id);
                // What history keeps is shown whatever else is gone: a gap excuses no more than what could be lost.
                let may_be_lost = self.lost || event.kind == "note" || kinds[event.kind] > HISTORY_EVENTS as usize;
                let is_told = may_be_lost && last_gap.is_some_and(|at| at + SECOND >= event.begun);
                let is_for_all = event.kind != paced::PACED || viewer.whole || self.noted.contains(&*id);
                if event.begun > since && is_for_all && !is_told && !viewer.seen.contains(&id) {
                    wrong.push(format!(
                        "{name}, connected since {:.3} s, never saw {id}, which was sent at {:.3} s ({} attempts) and acknowledged",
                        since as f64 / 1e9,
                        event.begun as f64 / 1e9,
                        event.attempts
                    ));
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Some while after all was quiet and each video was liked once more in a data center, all who watch one know how many
    /// like it there.
    fn total(&mut self, viewer: &Viewer) {
        let world = self.world;
        let Some(dc) = world.first_poster().map(|poster| world.homes[poster.number]) else { return };
        let Some(stream) = viewer.streams.last() else { return };
        let lasts = |topic: &&String| stream.since.get(*topic).is_some_and(|at| at + 7 * SECOND < world.now);
        for topic in viewer.topics.iter().filter(lasts) {
            let Some(video) = topic.strip_prefix("live:").filter(|video| !video.ends_with('*')) else { continue };
            let (shown, stored) = (stream.likes.get(topic).copied(), stored::count(world, dc, video));
            if shown != Some(stored) {
                let wrong = format!("viewer {} sees {shown:?} likes of {video}, which has {stored}", viewer.number);
                self.wrong.push(wrong);
            }
        }
    }

    /// Who watches a video knows how many like it in all data centers together, whatever was taken back.
    fn totals(&mut self, viewer: &Viewer) {
        let world = self.world;
        let Some(stream) = viewer.streams.last().filter(|_| !viewer.is_retired && !world.disks.is_empty()) else {
            return;
        };
        let lasts = |topic: &&String| stream.since.get(*topic).is_some_and(|at| at + 5 * SECOND < world.now);
        for topic in viewer.topics.iter().filter(lasts) {
            let Some(video) = topic.strip_prefix("live:").filter(|video| !video.ends_with('*')) else { continue };
            let shown = stream.totals.get(topic).copied();
            let stored: u64 = (0..world.disks.len()).map(|dc| stored::count(world, dc, video)).sum();
            if shown != Some(stored) {
                let name = format!("viewer {}", viewer.number);
                self.wrong
                    .push(format!("{name} was told that {shown:?} like {video}, and {stored} do in all data centers"));
            }
        }
    }

    /// Who watches a video knows its rules, which were there before all else.
    fn rules(&mut self, viewer: &Viewer) {
        let (world, slow) = (self.world, self.world.plan.slow);
        if slow == 0 || world.disks.is_empty() {
            return;
        }
        let told: Vec<_> = self.told(viewer, "live:", "rules").collect();
        for (_, told) in told.into_iter().filter(|(video, told)| *video == SLOW_VIDEO && *told != Some(slow)) {
            let name = format!("viewer {}", viewer.number);
            self.wrong.push(format!("{name} was told that {told:?} s lie between comments, which is {slow} s"));
        }
    }

    /// Viewers who did not go for good.
    fn watching(&self) -> impl Iterator<Item = &'a Viewer> {
        self.world.present().filter_map(Client::viewer).filter(|viewer| !viewer.is_retired)
    }

    /// What a viewer was told last of the newest of a type in its topics of a kind, by what such a topic is of.
    fn told<'v>(
        &self,
        viewer: &'v Viewer,
        kind: &'v str,
        newest: &'v str,
    ) -> impl Iterator<Item = (&'v str, Option<u64>)> {
        let topics = viewer
            .topics
            .iter()
            .filter_map(move |topic| Some((topic, topic.strip_prefix(kind).filter(|of| !of.ends_with('*'))?)));
        let stream = viewer.streams.last().filter(|_| !viewer.is_retired);
        topics.filter_map(move |(topic, of)| {
            let known = stream?.latest.get(&(topic.clone(), newest.to_owned())).copied();
            Some((of, known))
        })
    }

    /// Who watches a member knows whether some stream is theirs.
    fn presence(&mut self, viewer: &Viewer) {
        if self.world.plan.backends == 0 {
            return;
        }
        let told: Vec<_> = self.told(viewer, "presence:", "presence").collect();
        for (member, told) in told {
            let is_online = self.watching().any(|other| other.member.as_deref() == Some(member));
            let elsewhere = |other: &Viewer| {
                viewer.roams || other.roams || self.world.homes[other.number] != self.world.homes[viewer.number]
            };
            // A store that lost what others said of their members hears of them when they come or go.
            let members = || self.watching().filter(|other| other.member.as_deref() == Some(member));
            if self.world.plan.faults.contains(&Fault::Empty) && members().any(elsewhere) {
                continue;
            }
            if told.unwrap_or(0) != u64::from(is_online) {
                let name = format!("viewer {}", viewer.number);
                self.wrong.push(format!("{name} was told {told:?} of {member}, who is online: {is_online}"));
            }
        }
    }

    /// Who watches a video knows how many do, and how many members, each counted once however many streams.
    fn viewers(&mut self, viewer: &Viewer) {
        let told: Vec<_> = self.told(viewer, "live:", "viewers").collect();
        for (video, told) in told {
            let topic = format!("live:{video}");
            let watching = || self.watching().filter(|other| other.topics.contains(&topic));
            // One whose token ended a moment ago, by a clock that jumped, is on its way.
            let begun = |other: &Viewer| {
                let stream = other.streams.last().filter(|_| other.is_connected);
                stream.and_then(|stream| stream.since.get(&topic).copied())
            };
            let is_here = |other| begun(other).is_some_and(|since| since + 3 * SECOND < self.world.now);
            if self.world.plan.tokens && !watching().all(is_here) {
                continue;
            }
            let members: BTreeSet<&str> = watching().filter_map(|other| other.member.as_deref()).collect();
            let count = watching().count() as u64 + MEMBERS * members.len() as u64;
            if told != Some(count) {
                let name = format!("viewer {}", viewer.number);
                self.wrong.push(format!("{name} was told that {told:?} watch {video}, and {count} do"));
            }
        }
    }
}
