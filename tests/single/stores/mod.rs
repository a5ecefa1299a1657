//! What every store promises, on SQLite and on a PostgreSQL server of the test's own, also behind a connection pooler; and what PostgreSQL adds: several
//! backends on one database, servers that crash, hang and come back.

mod hooks;
mod likes;
mod once;
mod pooler;
mod postgres;
mod posts;
mod rules;

use crate::support;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use fanfare::db::{Command, Outcome, Store, StoreError};
use tempfile::TempDir;

/// What came of a command.
pub type Answer = Result<Outcome, StoreError>;

/// Where stores are opened.
pub enum Database {
    Sqlite(TempDir),
    Postgres(Box<support::postgres::Postgres>),
    /// By way of a pooler of transactions.
    Pooled(Box<support::postgres::Postgres>, support::pgbouncer::PgBouncer),
}

impl Database {
    fn sqlite() -> Database {
        Database::Sqlite(tempfile::tempdir().expect("a temporary folder"))
    }

    fn postgres() -> Database {
        Database::Postgres(Box::new(support::postgres::Postgres::start()))
    }

    fn pooled() -> Database {
        let server = support::postgres::Postgres::start();
        let pooler = support::pgbouncer::PgBouncer::before(&server, "transaction", 3);
        Database::Pooled(Box::new(server), pooler)
    }

    /// How many rows a table has.
    pub fn rows(&self, table: &str) -> i64 {
        match self {
            Database::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("it opens");
                let sql = format!("SELECT count(*) FROM {table}");
                connection.query_row(&sql, [], |row| row.get(0)).expect("a count")
            }
            Database::Postgres(server) | Database::Pooled(server, _) => {
                server.value(&format!("SELECT count(*) FROM fanfare.{table}")).parse().expect("a count")
            }
        }
    }

    /// Changes what is stored, behind the back of all stores.
    pub fn change(&self, sql: &str) {
        match self {
            Database::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("fanfare.db")).expect("it opens");
                connection.execute_batch(sql).expect("it is changed");
            }
            Database::Postgres(server) | Database::Pooled(server, _) => {
                server.sql("fanfare", &format!("SET search_path = fanfare; {sql}"));
            }
        }
    }

    /// A store on it, as another backend would have.
    pub fn open(&self) -> Caller {
        match self {
            Database::Sqlite(folder) => {
                let path = folder.path().join("fanfare.db");
                Caller::over(fanfare::db::sqlite::start(&path, answer).expect("it opens"))
            }
            Database::Postgres(server) => Caller::ready(&server.url()),
            Database::Pooled(_, pooler) => Caller::ready(&pooler.url()),
        }
    }
}

/// A ticket is where its answer goes.
type Ticket = Sender<Answer>;

fn answer(ticket: Ticket, answer: Answer) {
    // Who no longer listens does not care.
    let _ = ticket.send(answer);
}

/// A store, and the thread to wait for when it ends.
pub struct Caller {
    pub store: Store<Ticket>,
    thread: Option<JoinHandle<()>>,
}

impl Caller {
    fn over((store, thread): (Store<Ticket>, JoinHandle<()>)) -> Caller {
        Caller { store, thread: Some(thread) }
    }

    /// A store on PostgreSQL.
    pub fn on(url: &str) -> Caller {
        Caller::over(fanfare::db::postgres::start(url, answer).expect("it starts"))
    }

    /// The same, once it is well: what is submitted while it connects is refused where that takes long.
    fn ready(url: &str) -> Caller {
        let caller = Caller::on(url);
        support::becomes("the store", Ok(()), || caller.store.health());
        caller
    }

    /// Submits without waiting.
    #[track_caller]
    pub fn submit(&self, command: Command) -> Receiver<Answer> {
        let (ticket, answer) = bounded(1);
        self.store.try_submit(command, ticket).expect("there is room");
        answer
    }

    /// Submits and waits.
    #[track_caller]
    pub fn ask(&self, command: Command) -> Answer {
        self.submit(command).recv_timeout(support::DEADLINE).expect("the store answers what it took")
    }

    /// The same. A database that others keep busy says so, and is asked again.
    #[track_caller]
    pub fn insist(&self, command: Command) -> Answer {
        support::eventually("the store", || match self.ask(command.clone()) {
            Err(StoreError::Unavailable { detail }) => Err(detail),
            answer => Ok(answer),
        })
    }

    /// The same, and expects an outcome.
    #[track_caller]
    pub fn run(&self, command: Command) -> Outcome {
        self.insist(command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Submits all at once, so that they share batches, and gives the answers in order.
    #[track_caller]
    pub fn ask_all(&self, commands: impl IntoIterator<Item = Command>) -> Vec<Answer> {
        let answers: Vec<_> = commands.into_iter().map(|command| self.submit(command)).collect();
        let wait = |answer: Receiver<Answer>| answer.recv_timeout(support::DEADLINE).expect("an answer");
        answers.into_iter().map(wait).collect()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.store.close();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the storage thread ends by itself");
        }
    }
}

/// Runs each of these, which take a [`Database`], on both, and behind a pooler.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                super::$name(&crate::stores::Database::sqlite());
            })*
        }
        mod on_postgres {
            $(#[test]
            fn $name() {
                super::$name(&crate::stores::Database::postgres());
            })*
        }
        mod behind_a_pooler {
            $(#[test]
            fn $name() {
                super::$name(&crate::stores::Database::pooled());
            })*
        }
    };
}
pub(crate) use on_both;
