//! A connection that is ready to work: checked, migrated, its statements prepared.
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls};

use crate::db::post_id::PostIds;
use crate::db::postgres::options::{Options, cause};
use crate::db::postgres::statements::Statements;
use crate::db::postgres::{Refused, pooler, schema};
use crate::limits::{POSTGRES_CONNECT, POSTGRES_CONNECT_MAX, POSTGRES_MIGRATION, POSTGRES_STATEMENT};

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The database can be reached and will not do.
    Refused(Refused),
    /// It cannot be used at the moment.
    Away(String),
}

impl Failed {
    pub(crate) fn detail(self) -> String {
        match self {
            Failed::Away(detail) => detail,
            Failed::Refused(refused) => refused.problem,
        }
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed::Refused(refused)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let problem = cause(&error);
        let Some(code) = error.code() else { return Failed::Away(problem) };
        let remedy = match code.code() {
            // Also an unknown user and a server that takes nobody from here.
            "28P01" | "28000" => "give a user and a password that the server takes",
            "3D000" => "create it with `createdb`, or give another",
            // What is prepared is not there, or is another's: a pooler that does not show as one.
            "26000" | "42P05" => "connect to the server, or let the pooler keep a connection for each session",
            // PgBouncer's word for it has no code of its own.
            _ if error.as_db_error().is_some_and(|error| error.message().contains("statement pooling mode")) => {
                "let the pooler pool transactions or sessions (pool_mode = transaction)"
            }
            "42501" => "let the user create the schema \"fanfare\" and use it: GRANT CREATE ON DATABASE … TO …",
            _ => return Failed::Away(problem),
        };
        Failed::Refused(Refused::new(problem, remedy))
    }
}

/// Opens connections, one at a time. A server that has just started, on a machine that is short of time, needs seconds for the
/// first and little for what comes after it; of many that are all given up too early, it would never have finished one.
pub(crate) struct Opener {
    options: Options,
    /// How long each step of the next one may take.
    patience: Mutex<Duration>,
}

impl Opener {
    pub(crate) fn new(options: Options) -> Opener {
        Opener { options, patience: Mutex::new(POSTGRES_CONNECT) }
    }

    /// Opens one, when those before it are done. Who was too slow is given twice the time by the next, to
    /// [`POSTGRES_CONNECT_MAX`].
    pub(crate) async fn open(&self) -> Result<Session, Failed> {
        let mut patience = self.patience.lock().await;
        let begun = Instant::now();
        let opened = Session::open(&self.options, *patience).await;
        *patience = match begun.elapsed() {
            took if opened.is_err() && took >= *patience => (*patience * 2).min(POSTGRES_CONNECT_MAX),
            took if opened.is_ok() && took < *patience / 4 => (*patience / 2).max(POSTGRES_CONNECT),
            _ => *patience,
        };
        opened
    }
}

/// A connection with what belongs to it; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) ids: PostIds,
    /// What is set and prepared is there for the next transaction.
    pub(crate) keeps: bool,
    /// Begins a transaction.
    pub(crate) begin: String,
    /// Moves bytes between the client and the socket.
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It would wait for answers that nobody wants any more, perhaps of a server that never answers.
        self.driver.abort();
    }
}

impl Session {
    /// Connects and makes the database ready. Each step ends within `patience`, unless there is something to migrate.
    async fn open(options: &Options, patience: Duration) -> Result<Session, Failed> {
        let config = options.config()?;
        let connecting = async {
            match &options.tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    Ok((client, tokio::spawn(async { drop(connection.await) })))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    Ok((client, tokio::spawn(async { drop(connection.await) })))
                }
            }
        };
        let (client, driver) = within(patience, connecting).await.map_err(connecting_failed)?;
        // From here on, whatever fails closes the connection.
        let driver = Abort(Some(driver));
        let keeps = within(patience, async { Ok(!pooler::is_between(&client).await?) }).await?;
        let begin = if keeps {
            within(patience, async { Ok(client.batch_execute(&settings(false, patience)).await?) }).await?;
            "BEGIN".to_owned()
        } else {
            // Once, not with every connection.
            static TOLD: std::sync::Once = std::sync::Once::new();
            TOLD.call_once(|| {
                tracing::info!("a connection pooler stands before the database: statements are not prepared");
            });
            format!("BEGIN; {}", settings(true, POSTGRES_STATEMENT))
        };
        let name = match within(patience, schema::current(&client)).await? {
            Some(name) => name,
            None => within(POSTGRES_MIGRATION, schema::open(&client)).await?,
        };
        let ready = async {
            let statements = Statements::ready(&client, keeps).await.map_err(schema::shape)?;
            if keeps {
                client.batch_execute(&limits(false, POSTGRES_STATEMENT)).await?;
            } else {
                schema::fits(&client, &begin, &statements).await?;
            }
            Ok(statements)
        };
        let statements = within(patience, ready).await?;
        if let Some(column) = statements.odd_column() {
            return Err(schema::odd(&format!("the type of {column:?}")).into());
        }
        let ids = PostIds::new(name);
        Ok(Session { client, statements, ids, keeps, begin, driver: driver.keep() })
    }

    /// Whether the server stores: writes to the tables that posts and likes are written to, and takes that back.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let name = getrandom::u64().unwrap_or_default() >> 1;
        let sql = format!(
            "{begin};
             INSERT INTO fanfare.places (kind, name) VALUES (-1, '{name}');
             INSERT INTO fanfare.likes (video, member, reaction, at) VALUES ('{name}', '', '', 0);
             INSERT INTO fanfare.like_counts (video, reaction, likes) VALUES ('{name}', '', 1);
             INSERT INTO fanfare.posts (id, kind, place, member, text, at) VALUES (-{name}, -1, '{name}', '', repeat('x', 8192), 0);
             INSERT INTO fanfare.outbox (post, change, stored_at) VALUES (-{name}, 0, 0);
             ROLLBACK",
            begin = self.begin
        );
        let probe = async { Ok(self.client.batch_execute(&sql).await?) };
        within(2 * POSTGRES_STATEMENT, probe).await.map_err(Failed::detail)
    }
}

/// How long a statement may run or wait for a lock.
fn limits(of_transaction: bool, limit: Duration) -> String {
    let (set, limit) = (if of_transaction { "SET LOCAL" } else { "SET" }, limit.as_millis());
    format!("{set} statement_timeout = {limit}; {set} lock_timeout = {limit}")
}

/// What statements go by, for a transaction or for all of them.
fn settings(of_transaction: bool, limit: Duration) -> String {
    let set = if of_transaction { "SET LOCAL" } else { "SET" };
    let isolation = if of_transaction { "transaction_isolation" } else { "default_transaction_isolation" };
    format!(
        "{set} {isolation} = 'read committed';
         {limits};
         {set} idle_in_transaction_session_timeout = {idle};
         -- Whatever is looked up has an index. A plan made while a table was small must not read all of it once it is large.
         {set} enable_seqscan = off; {set} enable_hashjoin = off; {set} enable_mergejoin = off;
         {set} client_min_messages = warning;
         -- An answer means that a power cut loses nothing; what is stricter than that stays.
         SELECT set_config('synchronous_commit', 'on', {of_transaction}) WHERE current_setting('synchronous_commit') = 'off'",
        limits = limits(of_transaction, limit),
        idle = 4 * POSTGRES_STATEMENT.as_millis(),
    )
}

/// Of connecting, some errors that are not the server's words are certain to come again.
fn connecting_failed(failed: Failed) -> Failed {
    match failed {
        Failed::Away(detail) if detail.starts_with("error performing TLS handshake") => Refused::new(
            detail,
            "give a server that speaks TLS with a certificate for this name by an authority that is trusted (sslrootcert=PATH)",
        )
        .into(),
        Failed::Away(detail) if detail.ends_with("password missing") => Refused::new(
            "the server asks for a password",
            "give it by --db-password-file, or in PGPASSFILE or ~/.pgpass, which nobody else may read",
        )
        .into(),
        Failed::Away(detail) if detail.starts_with("invalid configuration") => {
            Refused::new(detail, "give postgres://USER:PASSWORD@HOST:PORT/NAME").into()
        }
        Failed::Away(detail) if detail.starts_with("authentication error") => {
            Refused::new(detail, "give a user and a password that the server takes").into()
        }
        other => other,
    }
}

async fn within<R>(limit: Duration, run: impl Future<Output = Result<R, Failed>>) -> Result<R, Failed> {
    match tokio::time::timeout(limit, run).await {
        Ok(result) => result,
        Err(_) => Err(Failed::Away(format!("the server did not answer within {} ms", limit.as_millis()))),
    }
}

/// Ends a connection's driver unless it is kept.
struct Abort(Option<JoinHandle<()>>);

impl Abort {
    fn keep(mut self) -> JoinHandle<()> {
        self.0.take().expect("it is kept once")
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.abort();
        }
    }
}

/// Whether a server that says this has ended the connection, or should not be talked to on it any more.
pub(crate) fn ends_session(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    // Shutdown and crash; tables that went away or changed under prepared statements, and these themselves; a server that has become a standby.
    let ends = ["57", "08", "26", "42", "0A", "XX"].iter().any(|class| code.code().starts_with(class));
    ends && *code != SqlState::QUERY_CANCELED || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}
