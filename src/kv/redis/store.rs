//! Sends calls to the master that has their place, and follows where that has gone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, cmd};
use tokio::time::sleep;

use crate::kv::redis::Config;
use crate::kv::redis::address::Endpoint;
use crate::kv::redis::keys::{Keys, Place};
use crate::kv::redis::link::explain;
use crate::kv::redis::lookups::Lookups;
use crate::kv::redis::master::{Call, Lane, Master};
use crate::kv::redis::topology::Topology;
use crate::kv::{Answer, Losses, NodeInfo, Request, Unavailable};
use crate::limits::{REDIS_REDIRECTS, REDIS_TRY_AGAIN};
use crate::wire::connection_id::NodeId;

/// An answer of a server, and which one gave it.
pub type Answered = Result<(Value, Rc<Master>), Unavailable>;

/// The store, on its own thread.
pub struct Store {
    /// Names of keys.
    pub keys: Rc<Keys>,
    /// The servers.
    pub topology: Rc<Topology>,
    /// What was asked for at start.
    pub config: Config,
    /// Look-ups under way, and whether their topic changed meanwhile.
    pub lookups: RefCell<Lookups>,
    /// Nodes that were alive when the store last could say so.
    pub known: RefCell<HashMap<NodeId, NodeInfo>>,
    /// When leases could last not be believed: at a change of what the store says of its own age.
    pub born: Cell<Option<(u64, Instant)>>,
    /// What nodes said of a loss.
    pub losses: RefCell<Losses>,
}

/// What to do about an error.
enum Next {
    Reload,
    Pause,
    Moved(Endpoint),
    Ask(Endpoint),
    Fail(Unavailable),
}

impl Store {
    /// Answers questions that go together: one, or some that write to the same topic, in order.
    pub async fn answer(self: &Rc<Store>, mut requests: Vec<Request>) -> Vec<Result<Answer, Unavailable>> {
        debug_assert!(!requests.is_empty());
        let one = if requests.len() == 1 { requests.pop() } else { None };
        let result = match one {
            None => return self.write(requests).await,
            Some(Request::Subscribers(topic)) => self.subscribers(topic).await,
            Some(Request::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(Request::Leave(node)) => self.leave(node).await,
            Some(Request::Claim(claim)) => self.claim(claim, "claim").await,
            Some(Request::Release(claim)) => self.claim(claim, "release").await,
            Some(Request::Read(read)) => self.read(read).await,
            Some(Request::Ends(topics)) => self.ends(topics).await,
            Some(Request::Topics(ask)) => self.topics(ask).await,
            Some(Request::Latest(topic)) => self.latest(topic).await,
            Some(Request::Newer(topics)) => self.newer(topics).await,
            Some(Request::SetCounts(change)) => self.set_counts(change).await,
            Some(Request::Counts) => self.counts().await,
            Some(Request::Beat(members)) => self.beat(members).await,
            Some(Request::Due(buckets, limit)) => self.due(buckets, limit).await,
            Some(Request::Settled(members)) => self.settled(members).await,
            Some(Request::Presence(members)) => self.presence(&members).await,
            Some(Request::Queue(ask)) => self.waiting(ask).await,
            Some(Request::Take(taking)) => self.take(taking).await,
            Some(Request::NotePeer(note)) => self.note_peer(note).await,
            Some(Request::PeerViewers) => self.all_peer_viewers().await,
            Some(Request::PeerTurns(said)) => self.peer_turns(said).await,
            Some(
                request @ (Request::Apply(_) | Request::Append(_) | Request::AppendOnce(..) | Request::SetLatest(_)),
            ) => {
                return self.write(vec![request]).await;
            }
        };
        vec![result]
    }

    /// Runs one call.
    pub async fn call(&self, place: Place, lane: Lane, call: Call) -> Answered {
        self.run(place, lane, vec![call]).await.pop().expect("an answer for each call")
    }

    /// Runs calls in order, in one go. What a server refuses because it has not got the place, or not any more, is run
    /// where it is now, in the same order.
    pub async fn run(&self, place: Place, lane: Lane, calls: Vec<Call>) -> Vec<Answered> {
        let unanswered = || Err(Unavailable("redirected too often".to_owned()));
        let mut answers: Vec<Answered> = calls.iter().map(|_| unanswered()).collect();
        let mut todo: Vec<usize> = (0..calls.len()).collect();
        let mut asking: Option<Endpoint> = None;
        for _ in 0..REDIS_REDIRECTS {
            let master = match &asking {
                Some(endpoint) => self.topology.master_at(endpoint).await,
                None => self.topology.master(place),
            };
            let replies = match &master {
                Ok(master) => send(master, lane, todo.iter().map(|at| &calls[*at]), asking.is_some()).await,
                Err(problem) => Err(problem.clone()),
            };
            let (master, replies) = match (master, replies) {
                (Ok(master), Ok(replies)) => (master, replies),
                (Err(problem), _) | (_, Err(problem)) => {
                    todo.iter().for_each(|at| answers[*at] = Err(problem.clone()));
                    return answers;
                }
            };
            asking = None;
            let (mut again, mut reload, mut pause, mut moved) = (Vec::new(), false, false, None);
            for (at, reply) in todo.into_iter().zip(replies) {
                let error = match reply.extract_error() {
                    Ok(value) => {
                        self.topology.attempted(&master, &calls[at], Ok(()));
                        answers[at] = Ok((value, Rc::clone(&master)));
                        continue;
                    }
                    Err(error) => error,
                };
                self.topology.attempted(&master, &calls[at], Err(&error));
                match self.next(&error, &master) {
                    Next::Reload => reload = true,
                    Next::Pause => pause = true,
                    Next::Moved(to) => moved = Some(to),
                    Next::Ask(to) => asking = Some(to),
                    Next::Fail(problem) => {
                        answers[at] = Err(problem);
                        continue;
                    }
                }
                again.push(at);
            }
            todo = again;
            if todo.is_empty() {
                return answers;
            }
            if reload && let Err(problem) = master.load_scripts().await {
                todo.iter().for_each(|at| answers[*at] = Err(Unavailable(problem.clone())));
                return answers;
            }
            if let Some(to) = moved {
                self.topology.moved(place, to.clone());
                // Its connection may have to be made; whether that worked is seen in the next round.
                let _ = self.topology.master_at(&to).await;
            }
            if pause {
                sleep(REDIS_TRY_AGAIN).await;
            }
        }
        answers
    }

    fn next(&self, error: &RedisError, master: &Master) -> Next {
        let redirect = || {
            let (to, _) = error.redirect_node()?;
            // A server that does not know its own name leaves it out.
            let to = if to.starts_with(':') { format!("{}{to}", master.endpoint.host) } else { to.to_owned() };
            Endpoint::parse(&to, master.endpoint.port)
        };
        let fail = || Next::Fail(Unavailable(format!("{}: {}", master.endpoint, explain(error))));
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Next::Reload,
            ErrorKind::Server(ServerErrorKind::TryAgain) => Next::Pause,
            ErrorKind::Server(ServerErrorKind::Moved) => redirect().map_or_else(fail, Next::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => redirect().map_or_else(fail, Next::Ask),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown,
            ) => {
                self.topology.look_again();
                fail()
            }
            _ => fail(),
        }
    }

    /// Whether the store, or the way to it, came back so lately that a lease that is not there says nothing.
    pub fn is_young(&self, lease: Duration) -> bool {
        let connected = self.topology.master(Place::Nodes).map_or(Duration::ZERO, |master| master.since.elapsed());
        let born = self.born.get().map_or(Duration::ZERO, |(_, seen)| seen.elapsed());
        connected < lease || born < lease
    }
}

async fn send(
    master: &Master,
    lane: Lane,
    calls: impl ExactSizeIterator<Item = &Call>,
    asking: bool,
) -> Result<Vec<Value>, Unavailable> {
    let broke = |error: RedisError| Unavailable(format!("{}: {}", master.endpoint, explain(&error)));
    let link = master.link(lane);
    let mut pipeline = Pipeline::with_capacity(calls.len() * (1 + usize::from(asking)));
    for call in calls {
        if asking {
            pipeline.add_command(cmd("ASKING"));
        }
        pipeline.add_command(master.command(call));
    }
    let mut replies = link.send_all(&pipeline).await.map_err(broke)?;
    if asking {
        let mut at = 0;
        replies.retain(|_| {
            at += 1;
            at % 2 == 0
        });
    }
    Ok(replies)
}
