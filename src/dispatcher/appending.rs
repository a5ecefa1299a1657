//! Publishing what the key-value store takes part in: class `every` is in history before its publisher is answered, class
//! `latest` gets its version there.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::dispatcher::Dispatcher;
use crate::ground::asking::{Asked, kv_error};
use crate::ground::cluster::Trouble;
use crate::ground::journeys::Named;
use crate::ground::once::other_body;
use crate::ground::publishing::{Appending, Published, Publisher, Versioning, id_json};
use crate::ground::{Ground, Reply, Todo};
use crate::kv::pace::Pace;
use crate::kv::{Answer, Append, Request, SetLatest, Unavailable, latest_field};
use crate::limits::{APPENDS_WAITING_MAX, VIEWERS_AGE};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::Held;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::event::{Class, VIEWERS};
use crate::wire::frame::{Event, Frame, Place, Stored, Withdrawn};
use crate::wire::hops::{Checkpoint, Hops};
use crate::wire::http::HttpError;
use crate::wire::position::Position;
use crate::wire::status::Status;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// The key-value store's clock, by which versions are given, as a dispatcher can tell it while the store is away: late by as long
/// as the last heartbeat's answer took, and never ahead, since what is ahead would hide what the store is given later. So neither
/// this node's own clock nor a version, which may follow a later one, stands in for it.
#[derive(Debug, Default)]
pub struct StoreClock(Option<(u64, Instant)>);

impl StoreClock {
    /// A heartbeat's answer said what it showed, in Unix ms, and came then.
    pub(crate) fn hear(&mut self, now: Option<(u64, Instant)>) {
        self.0 = now.or(self.0);
    }

    /// What it shows now, in Unix ms; none where the store was never heard of.
    fn unix_ms(&self, now: Instant) -> Option<u64> {
        self.0.map(|(heard, at)| heard + now.saturating_duration_since(at).as_millis() as u64)
    }
}

impl Dispatcher {
    /// Puts an event of class `every` into history, and then on its way.
    /// Its author may moderate the topic, if it is shown `always`.
    pub(crate) fn append(
        &mut self,
        ground: &mut Ground,
        event: &Event<'_>,
        always: bool,
        publisher: Publisher,
    ) -> Result<Published, HttpError> {
        if self.appends_waiting >= APPENDS_WAITING_MAX {
            return Err(HttpError::unavailable("too many events wait for the key-value store"));
        }
        let info = ground.live.types.get(event.kind);
        let json: Arc<str> = Frame::encode(event).json().into();
        let topic = Topic::parse(event.topic).expect("the topic was checked");
        let peers = ground.node.peers.iter().map(|peer| peer.name.clone()).collect();
        let (count_max, age_max_ms) = (info.history, info.max_age_ms);
        let held = ground.reserve_question(json.len())?;
        let kind = event.kind.to_owned();
        let withdraws = Withdrawn::id(event.kind, event.data);
        let pace = info.pace.map(|per_second| Pace { per_second, always });
        let hops = event.hops.cloned();
        // Peers get what the store has for them, and history beside it has the same text.
        let marked = hops.as_ref().filter(|_| self.has_peers()).map(|hops| hops.mark(&json));
        let text = marked.unwrap_or_else(|| Arc::clone(&json));
        let append = Append { topic, event: text, kind, count_max, age_max_ms, withdraws, peers, pace };
        let request = match &publisher {
            Publisher::Once(_, claim) => Request::AppendOnce((**claim).clone(), append),
            _ => Request::Append(append),
        };
        match ground.submit(request) {
            Ok(result) => self.place(ground, &json, hops, result),
            Err(ticket) => {
                self.appends_waiting += 1;
                let asked = Asked::Append(Appending { publisher, event: json, hops });
                ground.asked.insert(ticket, Held::new(asked, held));
                Ok(Published::Pending)
            }
        }
    }

    /// The store answered: the event goes on its way, and its publisher hears.
    pub(crate) fn on_appended(
        &mut self,
        ground: &mut Ground,
        appending: Appending,
        result: Result<Answer, Unavailable>,
    ) {
        self.appends_waiting -= 1;
        let placed = self.place(ground, &appending.event, appending.hops, result);
        let placed = if planted(Mistake::AcknowledgedEarly) { Ok(Published::Pending) } else { placed };
        match appending.publisher {
            Publisher::Request(conn) | Publisher::Once(conn, _) => {
                let id = match &placed {
                    Ok(Published::Repeated(id)) => id.clone(),
                    _ => Stored::read(&appending.event).map_or_else(String::new, |stored| stored.id.into_owned()),
                };
                ground.reply(conn, placed.map(|_| (Status::Accepted, id_json(&id))));
            }
            Publisher::Update(conn, updating) => match placed {
                Ok(_) => ground.todo.push_back(Todo::Update(conn, updating)),
                Err(error) => ground.reply(conn, Reply::Problem(error)),
            },
            Publisher::Line(conn, line) => {
                ground.reply(conn, Reply::Line(line, placed.map(drop).map_err(|error| error.detail.into_owned())))
            }
            Publisher::Post(topic, record) => ground.todo.push_back(Todo::Told(topic, record, placed.is_ok())),
            Publisher::Canary { by, every } => {
                ground.todo.extend(every.map(|number| Todo::CanaryTold(by, number, placed.is_ok())));
            }
            Publisher::Own => {
                if let Err(error) = placed {
                    let says = format_args!("of this node's own: {}", error.detail);
                    ground.happened(What::DroppedUnrouted, 1, Subject::says(says));
                    if ground.cluster.told.fails(Trouble::NotPublished, ground.clock.instant) {
                        warn!(detail = %error.detail, "an event of this node's own was not published");
                    }
                }
            }
        }
    }

    fn place(
        &mut self,
        ground: &mut Ground,
        json: &str,
        hops: Option<Arc<Hops>>,
        result: Result<Answer, Unavailable>,
    ) -> Result<Published, HttpError> {
        let (position, prev, paced) = match result {
            Ok(Answer::Appended { position, prev, paced }) => (position, prev, paced),
            Ok(Answer::Repeated { id }) => return id.map(Published::Repeated).ok_or_else(other_body),
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => return Err(kv_error(&unavailable, ground.clock.instant)),
        };
        if !paced.is_shown() {
            ground.counters().left_out.add(1);
        }
        self.send_placed(ground, &paced.mark(json), hops, position, prev);
        Ok(Published::Taken)
    }

    /// An event that has its place in history goes on its way.
    pub(crate) fn send_placed(
        &mut self,
        ground: &mut Ground,
        json: &str,
        hops: Option<Arc<Hops>>,
        position: Position,
        prev: Position,
    ) {
        let dc = ground.node.dc.clone();
        let stored = Stored::read(json).expect("it was written by this node, or read before");
        let mut event = stored.event(Class::Every, 0);
        event.place = Some(Place { dc: &dc, position, prev, paced: stored.paced });
        ground.track(Checkpoint::Kept.name(), Subject { event: Some(&stored.id), ..Subject::topic(&stored.topic) });
        let hops = self.kept(ground, hops, Class::Every, json);
        event.hops = hops.as_ref();
        // It is in history: should its way be too full, whoever wants it reads it there.
        if self.route(ground, &event).is_err() {
            let about = Subject { event: Some(&stored.id), ..Subject::topic(&stored.topic) };
            ground.happened(What::DroppedOverrun, 1, about);
        }
    }

    /// The key-value store has a sampled event.
    fn kept(&self, ground: &Ground, hops: Option<Arc<Hops>>, class: Class, json: &str) -> Option<Arc<Hops>> {
        hops.map(|mut hops| {
            ground.note(Arc::make_mut(&mut hops), Checkpoint::Kept, class, Named::Text(json));
            hops
        })
    }

    /// Gives an event of class `latest` the number of its version, unless it has one, and sends it on its way; with
    /// `broadcast` to other data centers, too.
    pub(crate) fn version(&mut self, ground: &mut Ground, event: &Event<'_>, broadcast: bool) -> Result<(), HttpError> {
        let json: Arc<str> = Frame::encode(event).json().into();
        let topic = Topic::parse(event.topic).expect("the topic was checked");
        let field = latest_field(event.kind, event.key);
        let age_ms = (event.kind == VIEWERS).then_some(VIEWERS_AGE.as_millis() as u64);
        let held = ground.reserve_question(json.len())?;
        let (number, dc) = (Some(event.version.number).filter(|number| *number > 0), event.version.dc.to_owned());
        let latest = SetLatest { topic, field, event: Arc::clone(&json), version: number, dc: dc.clone(), age_ms };
        let versioning = Versioning { event: json, number, dc, broadcast, hops: event.hops.cloned() };
        match ground.submit(Request::SetLatest(latest)) {
            Ok(result) => self.on_versioned(ground, versioning, result),
            Err(ticket) => {
                ground.asked.insert(ticket, Held::new(Asked::Versioned(versioning), held));
                Ok(())
            }
        }
    }

    /// The store answered. Without it the value goes to those who watch now, by its clock. An error is the store's, where that
    /// clock is not known: nobody could tell later whether the value is the newest.
    pub(crate) fn on_versioned(
        &mut self,
        ground: &mut Ground,
        versioning: Versioning,
        result: Result<Answer, Unavailable>,
    ) -> Result<(), HttpError> {
        let Versioning { event: json, number, dc, broadcast, hops } = versioning;
        let stored = Stored::read(&json).expect("it was written by this node, or read before");
        let number = match result {
            Ok(Answer::Versioned { newest: false, .. }) => return Ok(()),
            Ok(Answer::Versioned { version, .. }) => version,
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => {
                if stored.kind == VIEWERS {
                    self.tally.untold(Topic::parse(&stored.topic).expect("its topic was checked"));
                }
                let now = ground.clock.instant;
                number.or_else(|| self.store_clock.unix_ms(now)).ok_or_else(|| kv_error(&unavailable, now))?
            }
        };
        let mut event = stored.event(Class::Latest, 0);
        event.version = Version { number, dc: &dc };
        let hops = self.kept(ground, hops, Class::Latest, &json);
        event.hops = hops.as_ref();
        if !broadcast || !self.has_peers() {
            return self.route(ground, &event);
        }
        let frame = Arc::new(Frame::encode(&event));
        self.broadcast(ground, &frame);
        self.route_frame(ground, &frame)
    }
}
