//! The store on PostgreSQL: one thread, a few connections, group commit on each.
//!
//! Each connection serves a lane: it takes all commands that have queued up, runs them in one transaction of a few
//! statements, however many commands there are, and answers once it is committed. While it commits, the next batch
//! gathers. Commands for one video or conversation share a lane, so they keep their order and meet no lock of their own
//! node. Several backends may work on one database: a batch first locks the places that it is about, in one order for
//! all, so counts are exact and the ids of posts grow in the order of commits.
//!
//! Behind a connection pooler each transaction may be on another connection to the server: then statements have no names,
//! and what is set is set in each transaction.
//!
//! A database that is away is tried again with growing, jittered pauses; meanwhile every command gets
//! [`StoreError::Unavailable`] at once, and the batch that was under way within [`crate::limits::POSTGRES_BATCH`].

pub mod batch;
pub mod hooks;
pub mod lane;
pub mod likes;
pub mod once;
pub mod options;
pub mod passfile;
pub mod pooler;
pub mod posts;
pub mod rules;
pub mod schema;
pub mod session;
pub mod statements;

use std::rc::Rc;
use std::thread::JoinHandle;

use tokio::task::LocalSet;

use crate::db::postgres::lane::{Lane, Wellness};
use crate::db::postgres::options::Options;
use crate::db::postgres::session::{Failed, Opener, Session};
use crate::db::{Outcome, Store, StoreError};
use crate::limits::{POSTGRES_CONNECTIONS, POSTGRES_IDLE};

/// Why a store did not start: the database can be reached and will not do, or the URL is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct Refused {
    /// What is wrong; without the password of the URL.
    pub problem: String,
    /// What would help.
    pub remedy: &'static str,
}

impl Refused {
    fn new(problem: impl Into<String>, remedy: &'static str) -> Refused {
        Refused { problem: problem.into(), remedy }
    }
}

/// Connects to the database of a `postgres://` URL, makes or migrates its schema `fanfare`, and starts the storage
/// thread.
///
/// `answer` is called on that thread, once for each command taken, in the order of the queue for commands of one place.
/// It must neither block nor panic. The thread ends when the store is closed or its last handle dropped, after it has
/// stored and answered what was taken; join it to know that this is done.
///
/// A database that cannot be reached is no error: the store starts, answers [`StoreError::Unavailable`], says so in
/// [`Store::health`], and works once the database is there.
///
/// # Errors
/// [`Refused`] for what another try would not change: the URL, the user, the password, the encoding, tables of another
/// program or of a newer version. Waits some seconds at most for a server that does not answer.
pub fn start<T, A>(url: &str, answer: A) -> Result<(Store<T>, JoinHandle<()>), Refused>
where
    T: Send + 'static,
    A: Fn(T, Result<Outcome, StoreError>) + Send + 'static,
{
    let opener = Opener::new(Options::parse(url)?);
    let unable = |error: std::io::Error| {
        Refused::new(format!("its thread cannot be started: {error}"), "allow this process more threads and open files")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
    let mut sessions: Vec<Result<Session, String>> = Vec::with_capacity(POSTGRES_CONNECTIONS);
    match runtime.block_on(opener.open()) {
        Ok(session) => {
            sessions.push(Ok(session));
            // One that does not get its connection tries again by itself.
            let others = (1..POSTGRES_CONNECTIONS).map(|_| runtime.block_on(opener.open()).map_err(Failed::detail));
            sessions.extend(others);
        }
        Err(Failed::Refused(refused)) => return Err(refused),
        Err(Failed::Away(detail)) => {
            tracing::warn!(detail, "the database cannot be reached yet; answering 503 until it can");
            sessions.resize_with(POSTGRES_CONNECTIONS, || Err("the database could not be reached at start".to_owned()));
        }
    }
    let (store, ends) = Store::lanes(POSTGRES_CONNECTIONS);
    let health = store.reports();
    if let Some(Ok(session)) = sessions.first() {
        health.opened(session.ids.database());
    }
    let wellness = Wellness::new(&sessions, health);
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || {
            let (opener, answer, wellness) = (Rc::new(opener), Rc::new(answer), Rc::new(wellness));
            let lanes = LocalSet::new();
            for (number, (end, session)) in ends.into_iter().zip(sessions).enumerate() {
                let (opener, answer, wellness) = (Rc::clone(&opener), Rc::clone(&answer), Rc::clone(&wellness));
                let probe_at = tokio::time::Instant::now() + POSTGRES_IDLE;
                let session = session.ok();
                lanes.spawn_local(Lane { number, opener, end, answer, wellness, session, probe_at }.serve());
            }
            runtime.block_on(lanes);
        })
        .map_err(unable)?;
    Ok((store, thread))
}
