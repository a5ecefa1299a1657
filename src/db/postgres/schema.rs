//! Ownership and migrations of a database.
use tokio_postgres::{Client, Error};

use crate::db::postgres::Refused;
use crate::db::postgres::options::cause;
use crate::db::postgres::session::Failed;
use crate::db::postgres::statements::Statements;
use crate::limits::{POSTGRES_MIGRATION, POSTGRES_STATEMENT};

/// The lock under which migrations run: "Fanf" twice. One for each database of a server.
const MIGRATION_LOCK: i64 = 0x4661_6e66_4661_6e66;

/// What [`MIGRATIONS`] make stands in a schema of its own, so that it meets nothing of other programs.
const FOREIGN: &str = "its schema \"fanfare\" belongs to another program";

/// The oldest server that is taken: older ones are out of support.
const SERVER_VERSION_MIN: i32 = 120_000;

/// Statements that lead from version `index` to `index + 1`. Append only: databases in the field have run the others.
///
/// Names are in the collation "C": their order is that of their bytes, as in the program, and no update of the operating
/// system changes it under an index.
const MIGRATIONS: &[&str] = &["
    -- What a commit changes it first locks here, in order, so that commits of all backends for one place follow one another.
    CREATE TABLE fanfare.places (
        kind smallint NOT NULL, name text COLLATE \"C\" NOT NULL,
        PRIMARY KEY (kind, name)
    );
    CREATE TABLE fanfare.likes (
        video text COLLATE \"C\" NOT NULL, member text COLLATE \"C\" NOT NULL, reaction text COLLATE \"C\" NOT NULL,
        at bigint NOT NULL,
        PRIMARY KEY (video, member, reaction)
    );
    -- Kept beside the likes so that one like costs the same on a video with ten million of them. The room in each page
    -- lets an update stay in it.
    CREATE TABLE fanfare.like_counts (
        video text COLLATE \"C\" NOT NULL, reaction text COLLATE \"C\" NOT NULL, likes bigint NOT NULL CHECK (likes > 0),
        PRIMARY KEY (video, reaction)
    ) WITH (fillfactor = 50);
    CREATE SEQUENCE fanfare.post_ids;
    -- A deleted post keeps its row, without its text, so that receipts that name it hold.
    CREATE TABLE fanfare.posts (
        id bigint PRIMARY KEY,
        kind smallint NOT NULL, place text COLLATE \"C\" NOT NULL, member text COLLATE \"C\" NOT NULL, text text NOT NULL,
        at bigint NOT NULL, deleted_at bigint
    );
    CREATE INDEX posts_of_place ON fanfare.posts (kind, place, id) WHERE deleted_at IS NULL;
    CREATE TABLE fanfare.outbox (
        post bigint NOT NULL, change smallint NOT NULL, stored_at bigint NOT NULL, claimed_until bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (post, change)
    );
    CREATE INDEX outbox_by_age ON fanfare.outbox (stored_at, post, change);
    CREATE TABLE fanfare.receipts (
        conversation text COLLATE \"C\" NOT NULL, member text COLLATE \"C\" NOT NULL, message bigint NOT NULL,
        at bigint NOT NULL,
        PRIMARY KEY (conversation, member)
    ) WITH (fillfactor = 70);
", "
    -- Requests that are done once. Numbers tell the oldest and how many there are without counting.
    CREATE TABLE fanfare.once (
        key text COLLATE \"C\" PRIMARY KEY,
        number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        body text NOT NULL, status smallint NOT NULL, answer text NOT NULL, at bigint NOT NULL
    );
", "
    -- Who publishes what is due in the outbox, and until when nobody else does.
    CREATE TABLE fanfare.outbox_lease (
        one smallint PRIMARY KEY CHECK (one = 0), holder bigint NOT NULL, until bigint NOT NULL
    );
", "
    CREATE TABLE fanfare.taps (
        video text COLLATE \"C\" NOT NULL, reaction text COLLATE \"C\" NOT NULL, taps bigint NOT NULL CHECK (taps > 0),
        PRIMARY KEY (video, reaction)
    ) WITH (fillfactor = 50);
", "
    -- What binds who comments on a video. The index finds a member's newest comment, deleted or not, for slow mode.
    CREATE TABLE fanfare.rules (
        video text COLLATE \"C\" PRIMARY KEY, slow_seconds bigint NOT NULL, comments smallint NOT NULL, version bigint NOT NULL
    );
    CREATE TABLE fanfare.timeouts (
        video text COLLATE \"C\" NOT NULL, member text COLLATE \"C\" NOT NULL, until bigint NOT NULL,
        PRIMARY KEY (video, member)
    );
    CREATE INDEX comments_of_member ON fanfare.posts (place, member, id) WHERE kind = 0;
", "
    -- 1 of what is shown whatever the pace: its author may moderate the topic.
    ALTER TABLE fanfare.outbox ADD COLUMN always smallint NOT NULL DEFAULT 0;
", "
    -- A hook's deliveries, until its receiver took them: when each is due, and its number once it was taken first, else 0. A
    -- comment's data is made of the comment. States are those that receivers were told of; of a limit, when it was told last.
    CREATE TABLE fanfare.hooks (
        hook text COLLATE \"C\" PRIMARY KEY, sequence bigint NOT NULL DEFAULT 0, ended smallint NOT NULL DEFAULT 0,
        is_full smallint NOT NULL DEFAULT 0, left_out bigint NOT NULL DEFAULT 0
    );
    CREATE TABLE fanfare.hook_deliveries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        hook text COLLATE \"C\" NOT NULL, subject text COLLATE \"C\" NOT NULL, event smallint NOT NULL, data text NOT NULL,
        post bigint, at bigint NOT NULL, stored_at bigint NOT NULL, sequence bigint NOT NULL DEFAULT 0, tries bigint NOT NULL DEFAULT 0,
        next_try bigint NOT NULL DEFAULT 0
    );
    CREATE INDEX hook_deliveries_due ON fanfare.hook_deliveries (hook, next_try, id);
    CREATE INDEX hook_deliveries_of_subject ON fanfare.hook_deliveries (hook, subject, next_try);
    CREATE INDEX hook_deliveries_by_age ON fanfare.hook_deliveries (hook, stored_at);
    CREATE TABLE fanfare.hook_states (
        hook text COLLATE \"C\" NOT NULL, subject text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
        PRIMARY KEY (hook, subject)
    );
"];

/// The name in ids of a database that has the newest version already.
pub(crate) async fn current(client: &Client) -> Result<Option<String>, Failed> {
    check_server(client).await?;
    if !client.query_typed_one("SELECT to_regclass('fanfare.about') IS NOT NULL", &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let (version, name) = about(client).await?;
    Ok((version == MIGRATIONS.len()).then_some(name))
}

/// Makes a database Fanfare's if it may, and brings it to the newest version. Returns its name in ids.
pub(crate) async fn open(client: &Client) -> Result<String, Failed> {
    client.batch_execute("BEGIN").await?;
    let result = migrate(client, MIGRATIONS).await;
    match &result {
        Ok(_) => client.batch_execute("COMMIT").await?,
        // What was wrong matters more than whether the rollback works; the connection is given up anyway.
        Err(_) => drop(client.batch_execute("ROLLBACK").await),
    }
    result
}

async fn check_server(client: &Client) -> Result<(), Failed> {
    let sql = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer,
                      pg_is_in_recovery(), current_setting('fsync')";
    let row = client.query_typed_one(sql, &[]).await?;
    let (encoding, version, standby): (String, i32, bool) = (row.get(0), row.get(1), row.get(2));
    if encoding != "UTF8" {
        let problem = format!("its encoding is {encoding}, which cannot hold every text");
        return Err(Refused::new(problem, "create it with ENCODING 'UTF8'").into());
    }
    if version < SERVER_VERSION_MIN {
        let problem = format!("the server's version is {}, but at least 12 is needed", version / 10_000);
        return Err(Refused::new(problem, "upgrade PostgreSQL").into());
    }
    if standby {
        return Err(Failed::Away("the server is a standby, which takes no writes".into()));
    }
    if row.get::<_, &str>(3) == "off" {
        // Once, not with every connection.
        static WARNED: std::sync::Once = std::sync::Once::new();
        WARNED
            .call_once(|| tracing::warn!("PostgreSQL runs with fsync=off: a power cut can lose what was acknowledged"));
    }
    Ok(())
}

async fn migrate(client: &Client, migrations: &[&str]) -> Result<String, Failed> {
    // A migration of a large table may take its time, but nobody waits for a lock for long: who does tries again.
    client
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
            POSTGRES_MIGRATION.as_millis(),
            POSTGRES_STATEMENT.as_millis(),
        ))
        .await?;
    let found = client
        .query_typed_one(
            "SELECT to_regclass('fanfare.about') IS NOT NULL,
                    (SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                     WHERE nspname = 'fanfare')",
            &[],
        )
        .await?;
    if !found.get::<_, bool>(0) {
        if found.get::<_, i64>(1) != 0 {
            return Err(foreign());
        }
        let mut name = [0; 4];
        getrandom::fill(&mut name).map_err(|error| Failed::Away(format!("no randomness: {error}")))?;
        // In its own batch, since the next one reads what it makes.
        client
            .batch_execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS fanfare;
                 CREATE TABLE fanfare.about (application text NOT NULL, version integer NOT NULL, database text NOT NULL);
                 INSERT INTO fanfare.about VALUES ('fanfare', 0, '{:08x}')",
                u32::from_le_bytes(name)
            ))
            .await?;
    }
    let (done, name) = about(client).await?;
    let known = migrations.len();
    if done > known {
        let problem = format!("it has schema version {done}, but this build knows versions up to {known}");
        return Err(Refused::new(problem, "run a newer fanfare").into());
    }
    for migration in &migrations[done..] {
        client.batch_execute(migration).await.map_err(shape)?;
    }
    if done < known {
        client.batch_execute(&format!("UPDATE fanfare.about SET version = {known}")).await?;
    }
    Ok(name)
}

/// The version of the schema, and the database's name in ids.
async fn about(client: &Client) -> Result<(usize, String), Failed> {
    let sql = "SELECT version, database FROM fanfare.about WHERE application = 'fanfare'";
    let rows = client.query_typed(sql, &[]).await.map_err(shape)?;
    let [row] = rows.as_slice() else { return Err(foreign()) };
    let version = row.try_get::<_, i32>(0).ok().and_then(|version| usize::try_from(version).ok());
    match (version, row.try_get(1)) {
        (Some(version), Ok(name)) => Ok((version, name)),
        _ => Err(foreign()),
    }
}

/// Whether the tables fit statements that are not prepared: what would show then is looked at. In one transaction, of which
/// nothing stays.
pub(crate) async fn fits(client: &Client, begin: &str, statements: &Statements) -> Result<(), Failed> {
    client.batch_execute(begin).await?;
    statements.try_out(client).await.map_err(shape)?;
    let odd = client.query_typed(ODD_COLUMNS, &[]).await?;
    client.batch_execute("ROLLBACK").await?;
    match odd.first() {
        Some(row) => Err(self::odd(&format!("the type of {:?}", row.get::<_, &str>(0))).into()),
        None => Ok(()),
    }
}

/// Columns that have another type than the program reads them as.
const ODD_COLUMNS: &str = "SELECT attname::text FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'fanfare' AND attnum > 0
        AND relname IN ('places', 'likes', 'like_counts', 'posts', 'outbox', 'outbox_lease', 'receipts', 'once',
            'rules', 'timeouts', 'taps', 'hooks', 'hook_deliveries', 'hook_states')
        AND atttypid NOT IN ('bigint'::regtype, 'smallint'::regtype, 'text'::regtype)";

/// Errors of the class of those about tables that are not about tables: no right, and a statement's name that is taken.
const OF_NO_TABLE: [&str; 2] = ["42501", "42P05"];

/// What it means that a statement does not fit the tables.
pub(crate) fn shape(error: Error) -> Failed {
    match error.code() {
        Some(code) if !OF_NO_TABLE.contains(&code.code()) && code.code().starts_with("42") => {
            odd(&cause(&error)).into()
        }
        _ => error.into(),
    }
}

/// Tables that were changed by somebody.
pub(crate) fn odd(what: &str) -> Refused {
    Refused::new(format!("the tables in its schema \"fanfare\" have another shape: {what}"), "give another database")
}

fn foreign() -> Failed {
    Refused::new(FOREIGN, "give another database").into()
}
