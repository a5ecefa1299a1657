//! One master, while it can be reached: its connections, what it said of itself, and whether its replicas keep up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use crate::kv::BUCKETS;
use crate::kv::redis::address::Endpoint;
use crate::kv::redis::eviction::Memory;
use crate::kv::redis::keys::{Keys, Place};
use crate::kv::redis::link::{Dialer, Link, Pushes, explain};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::{ALL, COUNT, Script};
use crate::limits::{REDIS_LOOK, REDIS_REPLICA_WAIT, REDIS_SILENT, REDIS_VALUES_BYTES, TROUBLE_LOGGED};
use crate::wire::position::{Position, Reach};

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// For look-ups of subscribers: the server notes what is read there, and says when it changes.
    Lookups,
    /// For all else.
    Commands,
}

/// A master that is connected.
#[derive(Debug)]
pub struct Master {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What it calls itself since it was started.
    pub run_id: String,
    /// Since when it is connected.
    pub since: Instant,
    commands: Link,
    lookups: Link,
    /// Waits for replicas, so that nothing else has to.
    barrier: Link,
    scripts: [String; COUNT],
    replicas: Cell<usize>,
    /// The marks of its buckets: since when each lost nothing.
    marks: RefCell<[Option<Reach>; BUCKETS]>,
    /// The bytes that newest values of a bucket may take: a share of the memory that it has.
    values_bytes: Cell<usize>,
    /// Whether it says how counts change, or is asked to.
    hears: Cell<bool>,
    /// Why it does not do what it was last asked to do, if it does not.
    refuses: RefCell<Option<Refusal>>,
    /// It did not take part in something that it must.
    unfit: Notify,
    /// Who waits for the next look at the replicas; none while nobody looks.
    waiting: RefCell<Option<Vec<Told>>>,
}

/// A server that answers, and does not do what it is asked.
#[derive(Debug, Clone)]
struct Refusal {
    /// What it said.
    why: String,
    /// What it refused where that concerns nothing else; none if it takes no writes at all.
    script: Option<Script>,
    since: Instant,
}

/// What a server says that takes no writes, also from within a script. The last one is said to everybody by a part of a
/// Cluster that does not know yet, or no longer, that all parts have a master.
const REFUSALS: [&str; 5] = ["OOM", "READONLY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN"];
/// What servers of all versions say to a user who may not do this, directly and from within a script.
const FORBIDDEN: [&str; 3] = ["NOPERM", "ACL failure in script", "can't run this command"];

/// Tells who waits for the replicas.
type Told = oneshot::Sender<Result<(), String>>;

/// A command that knows the server's run id only once it is sent.
#[derive(Debug, Clone)]
pub enum Call {
    /// A command as it is.
    Plain(Cmd),
    /// A script with its keys and arguments.
    Script(Script, Vec<String>, Vec<Argument>),
}

/// An argument of a script.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A text.
    Text(String),
    /// An event, which is not copied before it is sent.
    Event(std::sync::Arc<str>),
    /// The server's run id.
    RunId,
    /// The bytes that newest values of a bucket may take on the server.
    ValuesBytes,
}

impl Master {
    /// Connects to `endpoint` and readies it: scripts, tracking, and the mark of each of `places`. A server that turns out
    /// to be part of a Cluster is no use before the Cluster is known.
    ///
    /// # Errors
    /// Why it is no use, for an operator.
    pub async fn connect(
        dialer: &Dialer,
        endpoint: &Endpoint,
        pushes: &Pushes,
        keys: &Keys,
        places: &[Place],
        clustered: &Cell<bool>,
    ) -> Result<Master, String> {
        let said = |problem: String| format!("{endpoint}: {problem}");
        let commands = dialer.connect(endpoint, None).await?;
        let lookups = dialer.connect(endpoint, Some(pushes.clone())).await?;
        let barrier = dialer.connect(endpoint, None).await?;
        let info = info(&commands, "server").await.map_err(said)?;
        let run_id = replies::info_field(&info, "run_id").ok_or_else(|| said("it names no run_id".into()))?.to_owned();
        if replies::info_field(&info, "redis_mode") == Some("cluster") && !clustered.replace(true) {
            return Err(said("it is part of a Cluster".to_owned()));
        }
        // Between two connections the server can have been replaced.
        for link in [&lookups, &barrier] {
            let info = self::info(link, "server").await.map_err(said)?;
            if replies::info_field(&info, "run_id") != Some(&run_id) {
                return Err(said("it was restarted meanwhile".to_owned()));
            }
        }
        let replication = self::info(&commands, "replication").await.map_err(said)?;
        if replies::info_field(&replication, "role") != Some("master") {
            return Err(said("it is a replica, and no master".to_owned()));
        }
        lookups.ask(cmd("CLIENT").arg("TRACKING").arg("ON"), REDIS_SILENT).await.map_err(said)?;
        let hears = places.contains(&Place::Nodes);
        if hears {
            lookups.hear(&keys.counts_channel(), true, REDIS_SILENT).await.map_err(said)?;
        }
        let scripts = load(&commands).await.map_err(said)?;
        let master = Master {
            endpoint: endpoint.clone(),
            run_id,
            since: Instant::now(),
            commands,
            lookups,
            barrier,
            scripts,
            replicas: Cell::new(replies::replicas_online(&replication)),
            marks: RefCell::new([None; BUCKETS]),
            values_bytes: Cell::new(REDIS_VALUES_BYTES),
            hears: Cell::new(hears),
            refuses: RefCell::new(None),
            unfit: Notify::new(),
            waiting: RefCell::new(None),
        };
        master.mark(keys, places).await.map_err(said)?;
        Ok(master)
    }

    /// Sets the mark of each bucket that has none of this server yet.
    pub async fn mark(&self, keys: &Keys, places: &[Place]) -> Result<(), String> {
        let bucket = |place: &Place| match place {
            Place::Bucket(number) => Some(*number),
            Place::Nodes => None,
        };
        let buckets: Vec<u8> = places.iter().filter_map(bucket).collect();
        let mut calls = Pipeline::new();
        for number in &buckets {
            let call = Call::Script(Script::Since, vec![keys.since(*number)], vec![Argument::RunId]);
            calls.add_command(self.command(&call));
        }
        let marks = self.send_marks(&calls).await?;
        for (number, mark) in buckets.into_iter().zip(marks) {
            self.is_marked(number, replies::number(&mark).map(|ms| Reach::back_to(Position::at(ms))));
        }
        Ok(())
    }

    /// A bucket of it lost nothing since then.
    pub fn is_marked(&self, number: u8, since: Option<Reach>) {
        self.marks.borrow_mut()[usize::from(number)] = since;
    }

    /// Since when a bucket of it lost nothing, as far as is known.
    pub fn since(&self, number: u8) -> Option<Reach> {
        self.marks.borrow()[usize::from(number)]
    }

    async fn send_marks(&self, marks: &Pipeline) -> Result<Vec<Value>, String> {
        if marks.is_empty() {
            return Ok(Vec::new());
        }
        // Slots that are on the move answer with errors: whoever asks for them sets the mark.
        match tokio::time::timeout(REDIS_SILENT, self.commands.send_all(marks)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("no answer within {REDIS_SILENT:?}")),
        }
    }

    /// Hears of changes of counts from now on, or no longer. False where that is so anyway. One that cannot hear of them is no
    /// use, and is connected anew.
    pub async fn hear_counts(&self, keys: &Keys, wanted: bool) -> bool {
        if self.hears.replace(wanted) == wanted {
            return false;
        }
        let heard = self.lookups.hear(&keys.counts_channel(), wanted, REDIS_SILENT).await;
        if wanted && heard.is_err() {
            self.unfit.notify_one();
        }
        heard.is_ok()
    }

    /// What it says of its memory, of which newest values take a share, so that history and subscriptions find room.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn memory(&self) -> Result<Memory, String> {
        let (memory, stats) = (info(&self.commands, "memory").await?, info(&self.commands, "stats").await?);
        let number =
            |info, name| replies::info_field(info, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let limit = usize::try_from(number(&memory, "maxmemory")).ok().filter(|limit| *limit > 0);
        self.values_bytes.set(values_bytes(limit));
        let policy = replies::info_field(&memory, "maxmemory_policy").unwrap_or("noeviction").to_owned();
        Ok(Memory { limit, policy, evicted: number(&stats, "evicted_keys") })
    }

    /// The server dropped keys of these places, and nobody knows which: histories may lack events from now on, and what nodes
    /// want is asked of them anew, since its digest may be there without it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn begin_anew(&self, keys: &Keys, places: &[Place]) -> Result<(), String> {
        let mut all = Pipeline::new();
        for place in places {
            match place {
                Place::Nodes => all.cmd("DEL").arg(keys.counted()),
                Place::Bucket(number) => {
                    let arguments = vec![Argument::RunId, Argument::Text("lost".to_owned())];
                    all.add_command(self.command(&Call::Script(Script::Since, vec![keys.since(*number)], arguments)));
                    all.cmd("DEL").arg(keys.digests(*number))
                }
            };
        }
        self.send_marks(&all).await?;
        self.mark(keys, places).await
    }

    /// The connection for something.
    pub fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Lookups => &self.lookups,
            Lane::Commands => &self.commands,
        }
    }

    /// A call as this server takes it.
    pub fn command(&self, call: &Call) -> Cmd {
        match call {
            Call::Plain(command) => command.clone(),
            Call::Script(script, keys, arguments) => {
                let mut command = cmd("EVALSHA");
                command.arg(&self.scripts[*script as usize]).arg(keys.len()).arg(keys);
                for argument in arguments {
                    match argument {
                        Argument::Text(text) => command.arg(text),
                        Argument::Event(event) => command.arg(&**event),
                        Argument::RunId => command.arg(&self.run_id),
                        Argument::ValuesBytes => command.arg(self.values_bytes.get()),
                    };
                }
                command
            }
        }
    }

    /// What came of a call. True if it changes whether the server does what it is asked. Only of the same kind of work is it
    /// said that it is done again: a server that is full, or a replica, answers reads.
    pub fn attempted(&self, call: &Call, result: Result<(), &RedisError>) -> bool {
        let script = match call {
            Call::Script(script, ..) => Some(*script),
            Call::Plain(_) => None,
        };
        let mut refuses = self.refuses.borrow_mut();
        match result {
            Ok(()) => {
                let mended = refuses.as_ref().is_some_and(|refusal| match refusal.script {
                    // A right is looked for no longer than this where nobody asks for the same again.
                    Some(refused) => script == Some(refused) || refusal.since.elapsed() > TROUBLE_LOGGED,
                    None => script == Some(Script::Probe),
                });
                if mended {
                    *refuses = None;
                }
                mended
            }
            Err(error) => {
                let why = explain(error);
                let takes_none = |part: &str| REFUSALS.contains(&part);
                let all = why.split(|letter: char| !letter.is_ascii_uppercase()).any(takes_none);
                let script = match (all, FORBIDDEN.iter().any(|text| why.contains(text))) {
                    (true, _) => None,
                    (_, true) => Some(script.unwrap_or(Script::Probe)),
                    _ => return false,
                };
                *refuses = Some(Refusal { why, script, since: Instant::now() });
                true
            }
        }
    }

    /// Why it does not do what it was last asked to do, if it does not.
    pub fn refuses(&self) -> Option<String> {
        self.refuses.borrow().as_ref().map(|refusal| format!("{}: it refuses: {}", self.endpoint, refusal.why))
    }

    /// Loads the scripts again, after the server said that it has forgotten them.
    pub async fn load_scripts(&self) -> Result<(), String> {
        load(&self.commands).await.map(|_| ())
    }

    /// Waits as long as it is of use. Gives the reason why it no longer is.
    pub async fn watch(&self) -> String {
        tokio::select! {
            () = self.commands.ended() => {}
            () = self.lookups.ended() => {}
            () = self.barrier.ended() => {}
            () = self.unfit.notified() => return format!("{}: it does not say how counts change", self.endpoint),
            problem = self.look() => return format!("{}: {problem}", self.endpoint),
        }
        format!("{}: the connection broke", self.endpoint)
    }

    async fn look(&self) -> String {
        loop {
            sleep(REDIS_LOOK).await;
            let ping = cmd("PING");
            let (replication, pong) =
                tokio::join!(info(&self.commands, "replication"), self.lookups.ask(&ping, REDIS_SILENT));
            let replication = match (replication, pong) {
                (Ok(replication), Ok(_)) => replication,
                (Err(problem), _) | (_, Err(problem)) => return problem,
            };
            if replies::info_field(&replication, "role") != Some("master") {
                return "it became a replica".to_owned();
            }
            self.replicas.set(replies::replicas_online(&replication));
        }
    }

    /// Waits until a replica has all that was written so far, where there are replicas. One wait serves all who ask while
    /// another one is under way. It needs a key to write to: the first of `keys` whose slot is not on the move.
    ///
    /// # Errors
    /// No replica confirmed it within [`REDIS_REPLICA_WAIT`].
    pub async fn replicated(self: &Rc<Master>, keys: &[String]) -> Result<(), String> {
        if self.replicas.get() == 0 {
            return Ok(());
        }
        let (done, told) = oneshot::channel();
        if self.join_wait(done) {
            let (master, keys) = (Rc::clone(self), keys.to_vec());
            tokio::task::spawn_local(async move { master.wait_for_replicas(&keys).await });
        }
        told.await.unwrap_or_else(|_| Err("the connection broke".to_owned()))
    }

    /// Takes part in the next wait. True if nobody sees to that yet.
    fn join_wait(&self, done: Told) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.is_none();
        waiting.get_or_insert_default().push(done);
        first
    }

    async fn wait_for_replicas(&self, keys: &[String]) {
        loop {
            let who = self.waiting.borrow_mut().replace(Vec::new()).unwrap_or_default();
            if who.is_empty() {
                *self.waiting.borrow_mut() = None;
                return;
            }
            let mut result = Err("no key to write to".to_owned());
            for key in keys {
                result = match self.one_wait(key).await {
                    Err(NotWaited::Moved) => continue,
                    Err(NotWaited::Problem(problem)) => Err(problem),
                    Ok(()) => Ok(()),
                };
                break;
            }
            for done in who {
                // Whoever gave up waiting needs no answer.
                let _ = done.send(result.clone());
            }
        }
    }

    async fn one_wait(&self, key: &str) -> Result<(), NotWaited> {
        let mut wait = Pipeline::new();
        // A slot that comes in takes writes only after this word. Elsewhere it does nothing, or is an error that does not
        // matter.
        wait.cmd("ASKING");
        // WAIT is about what its own connection wrote: with this, about all that was written before.
        wait.cmd("SET").arg(key).arg("").arg("PX").arg(60_000);
        wait.cmd("WAIT").arg(1).arg(REDIS_REPLICA_WAIT.as_millis() as u64);
        let limit = REDIS_REPLICA_WAIT + REDIS_SILENT;
        let answers = match tokio::time::timeout(limit, self.barrier.send_all(&wait)).await {
            Ok(answers) => answers.map_err(|error| NotWaited::Problem(explain(&error)))?,
            Err(_) => return Err(NotWaited::Problem(format!("no answer within {limit:?}"))),
        };
        let mut confirmed = Value::Nil;
        for answer in answers.into_iter().skip(1) {
            confirmed = answer.extract_error().map_err(|error| match error.redirect_node() {
                Some(_) => NotWaited::Moved,
                None => NotWaited::Problem(explain(&error)),
            })?;
        }
        if !matches!(confirmed, Value::Int(0)) {
            return Ok(());
        }
        // The last replica may just have gone, or this master was replaced and has not heard of it yet. Which it is shows
        // at the next look, after which a master without replicas is taken at its word.
        let problem = format!("{}: no replica confirmed the write within {REDIS_REPLICA_WAIT:?}", self.endpoint);
        Err(NotWaited::Problem(problem))
    }
}

enum NotWaited {
    /// The key's slot is on the move.
    Moved,
    Problem(String),
}

/// The bytes that newest values of a bucket may take on a server that has so many.
fn values_bytes(limit: Option<usize>) -> usize {
    limit.map_or(REDIS_VALUES_BYTES, |limit| (limit / 4 / BUCKETS).min(REDIS_VALUES_BYTES))
}

async fn info(link: &Link, section: &str) -> Result<String, String> {
    let answer = link.ask(cmd("INFO").arg(section), REDIS_SILENT).await?;
    replies::text(answer).ok_or_else(|| "INFO gave no text".to_owned())
}

async fn load(link: &Link) -> Result<[String; COUNT], String> {
    let mut loads = Pipeline::new();
    for (_, text) in ALL {
        loads.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    let answers = match tokio::time::timeout(REDIS_SILENT, link.send_all(&loads)).await {
        Ok(answers) => answers.map_err(|error| explain(&error))?,
        Err(_) => return Err(format!("no answer within {REDIS_SILENT:?}")),
    };
    let mut digests = [const { String::new() }; COUNT];
    for (digest, answer) in digests.iter_mut().zip(answers) {
        let answer = answer.extract_error().map_err(|error| explain(&error))?;
        *digest = replies::text(answer).ok_or("SCRIPT LOAD gave no text")?;
    }
    Ok(digests)
}
