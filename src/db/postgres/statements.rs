//! The SQL, prepared once a connection where that keeps it. Every statement takes all of a batch at once, as arrays.
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Column, Error, Row, Statement};

/// The clock of the database, by which all backends go, in Unix milliseconds.
const NOW: &str = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint";

/// A statement, ready to be asked.
#[derive(Debug)]
pub(crate) struct Asked {
    sql: String,
    types: &'static [Type],
    /// None where the connection keeps nothing from one transaction to the next: then its text goes along each time.
    prepared: Option<Statement>,
}

impl Asked {
    async fn ready(client: &Client, sql: String, types: &'static [Type], keeps: bool) -> Result<Asked, Error> {
        let prepared = if keeps { Some(client.prepare_typed(&sql, types).await?) } else { None };
        Ok(Asked { sql, types, prepared })
    }

    /// Asks, and reads the rows.
    pub(crate) async fn query(&self, client: &Client, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match &self.prepared {
            Some(prepared) => client.query(prepared, values).await,
            None => client.query_typed(&self.sql, &self.typed(values)).await,
        }
    }

    /// Asks. Gives how many rows it changed.
    pub(crate) async fn execute(&self, client: &Client, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        match &self.prepared {
            Some(prepared) => client.execute(prepared, values).await,
            None => client.execute_typed(&self.sql, &self.typed(values)).await,
        }
    }

    fn typed<'a>(&self, values: &[&'a (dyn ToSql + Sync)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        values.iter().copied().zip(self.types.iter().cloned()).collect()
    }

    /// Asks about nothing, which changes nothing.
    async fn try_out(&self, client: &Client) -> Result<(), Error> {
        let nothing = |kind: &Type| -> Box<dyn ToSql + Sync> {
            match *kind {
                Type::TEXT_ARRAY => Box::new(Vec::<&str>::new()),
                Type::INT2_ARRAY => Box::new(Vec::<i16>::new()),
                Type::INT8_ARRAY => Box::new(Vec::<i64>::new()),
                Type::TEXT => Box::new(""),
                Type::INT2 => Box::new(-1i16),
                _ => Box::new(0i64),
            }
        };
        let values: Vec<_> = self.types.iter().map(nothing).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value).collect();
        self.query(client, &values).await.map(drop)
    }
}

macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident [$($type:ident),*] = $sql:expr;)*) => {
        /// All of them.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $($(#[$meta])* pub(crate) $name: Asked,)*
        }

        impl Statements {
            /// Readies them, all at once; `keeps` says whether the connection keeps what is prepared.
            pub(crate) async fn ready(client: &Client, keeps: bool) -> Result<Statements, Error> {
                let ($($name,)*) =
                    tokio::try_join!($(Asked::ready(client, $sql.to_string(), &[$(Type::$type),*], keeps)),*)?;
                Ok(Statements { $($name),* })
            }

            /// Whether the tables fit those that are not prepared.
            pub(crate) async fn try_out(&self, client: &Client) -> Result<(), Error> {
                $(self.$name.try_out(client).await?;)*
                Ok(())
            }

            /// The first column of a result that has another type than the program reads it as.
            pub(crate) fn odd_column(&self) -> Option<&str> {
                let columns = [$(self.$name.prepared.as_ref(),)*].into_iter().flatten().flat_map(Statement::columns);
                let expected = [Type::BOOL, Type::INT2, Type::INT8, Type::TEXT, Type::VOID];
                columns.into_iter().find(|column| !expected.contains(column.type_())).map(Column::name)
            }
        }
    };
}

statements! {
    /// Makes the rows that are locked. Of names in ascending order, so that two backends that make the same never wait for
    /// each other in a circle.
    make_places [INT2_ARRAY, TEXT_ARRAY] = "INSERT INTO fanfare.places (kind, name) SELECT * FROM unnest($1::smallint[], $2::text[])
        ON CONFLICT DO NOTHING";
    /// Locks them, in the same order.
    lock_places [INT2_ARRAY, TEXT_ARRAY] = "SELECT FROM fanfare.places JOIN unnest($1::smallint[], $2::text[]) AS wanted (kind, name)
            ON places.kind = wanted.kind AND places.name = wanted.name
        ORDER BY places.kind, places.name FOR UPDATE OF places";
    /// Which of these likes are stored, by their places in the arrays from 1.
    find_likes [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "SELECT wanted.position FROM
            unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (video, member, reaction, position)
        JOIN fanfare.likes ON likes.video = wanted.video AND likes.member = wanted.member
            AND likes.reaction = wanted.reaction";
    read_counts [TEXT_ARRAY] = "SELECT video, reaction, likes FROM fanfare.like_counts WHERE video = ANY ($1::text[])";
    delete_likes [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "DELETE FROM fanfare.likes USING unnest($1::text[], $2::text[], $3::text[])
            AS wanted (video, member, reaction)
        WHERE likes.video = wanted.video AND likes.member = wanted.member AND likes.reaction = wanted.reaction";
    insert_likes [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.likes (video, member, reaction, at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";
    write_counts [TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.like_counts (video, reaction, likes)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
        ON CONFLICT (video, reaction) DO UPDATE SET likes = excluded.likes";
    delete_counts [TEXT_ARRAY, TEXT_ARRAY] = "DELETE FROM fanfare.like_counts USING unnest($1::text[], $2::text[]) AS wanted (video, reaction)
        WHERE like_counts.video = wanted.video AND like_counts.reaction = wanted.reaction";
    read_taps [TEXT_ARRAY] = "SELECT video, reaction, taps FROM fanfare.taps WHERE video = ANY ($1::text[])";
    add_taps [TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.taps (video, reaction, taps)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
        ON CONFLICT (video, reaction) DO UPDATE SET taps = taps.taps + excluded.taps";
    /// Numbers for new posts. Taken while their places are locked, so that they grow in the order of commits.
    take_ids [INT8] = "SELECT nextval('fanfare.post_ids') FROM generate_series(1, $1::bigint)";
    find_posts [INT8_ARRAY] = "SELECT id, kind::smallint, place, member, deleted_at IS NOT NULL FROM fanfare.posts WHERE id = ANY ($1::bigint[])";
    insert_posts [INT8_ARRAY, INT2_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.posts (id, kind, place, member, text, at)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::bigint[])";
    delete_posts [INT8_ARRAY, INT8_ARRAY] = "UPDATE fanfare.posts SET text = '', deleted_at = wanted.at
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (id, at) WHERE posts.id = wanted.id";
    record [INT8_ARRAY, INT2_ARRAY, INT2_ARRAY] = format!("INSERT INTO fanfare.outbox (post, change, always, stored_at)
        SELECT post, change, always, {NOW}
        FROM unnest($1::bigint[], $2::smallint[], $3::smallint[]) AS new (post, change, always)");
    /// Takes records out of the outbox. They are locked in order first.
    unrecord [INT8_ARRAY, INT2_ARRAY] = "WITH held AS (
            SELECT outbox.post, outbox.change FROM fanfare.outbox
            JOIN unnest($1::bigint[], $2::smallint[]) AS wanted (post, change)
                ON outbox.post = wanted.post AND outbox.change = wanted.change
            ORDER BY outbox.post, outbox.change FOR UPDATE OF outbox
        )
        DELETE FROM fanfare.outbox USING held WHERE outbox.post = held.post AND outbox.change = held.change
        RETURNING outbox.post, outbox.change::smallint";
    /// Makes records due. They are locked in order first.
    leave [INT8_ARRAY, INT2_ARRAY] = "WITH held AS (
            SELECT outbox.post, outbox.change FROM fanfare.outbox
            JOIN unnest($1::bigint[], $2::smallint[]) AS wanted (post, change)
                ON outbox.post = wanted.post AND outbox.change = wanted.change
            ORDER BY outbox.post, outbox.change FOR UPDATE OF outbox
        )
        UPDATE fanfare.outbox SET stored_at = 0 FROM held
        WHERE outbox.post = held.post AND outbox.change = held.change";
    /// Whether something is due.
    is_due [INT8] = format!("SELECT EXISTS (SELECT FROM fanfare.outbox WHERE stored_at <= {NOW} - $1::bigint)");
    /// A row if the lease is had. Nobody is 0.
    take_lease [INT8, INT8] = format!("INSERT INTO fanfare.outbox_lease AS lease
        SELECT 0, $1::bigint, {NOW} + $2::bigint WHERE $1::bigint <> 0 ON CONFLICT (one)
        DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= {NOW}
        RETURNING lease.holder");
    /// By the key and not by age, since the order of ids is what counts.
    list_outbox [INT8, INT8, INT2, INT8] = format!("SELECT due.post, due.change::smallint, kind::smallint, place, member, text, due.always::smallint
        FROM (
            SELECT post, change, always FROM fanfare.outbox
            WHERE stored_at + 0 <= {NOW} - $1::bigint AND (post, change) > ($2::bigint, $3::smallint)
            ORDER BY post, change LIMIT $4::bigint
        ) AS due JOIN fanfare.posts ON posts.id = due.post
        ORDER BY due.post, due.change");
    posts_after [INT2, TEXT, INT8, INT8] = "SELECT id, member, text, at FROM fanfare.posts
        WHERE kind = $1 AND place = $2 AND deleted_at IS NULL AND id > $3 ORDER BY id LIMIT $4";
    posts_before [INT2, TEXT, INT8, INT8] = "SELECT id, member, text, at FROM fanfare.posts
        WHERE kind = $1 AND place = $2 AND deleted_at IS NULL AND id < $3 ORDER BY id DESC LIMIT $4";
    find_receipts [TEXT_ARRAY, TEXT_ARRAY] = "SELECT wanted.position, receipts.message FROM
            unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (conversation, member, position)
        JOIN fanfare.receipts ON receipts.conversation = wanted.conversation AND receipts.member = wanted.member";
    write_receipts [TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.receipts (conversation, member, message, at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
        ON CONFLICT (conversation, member) DO UPDATE SET message = excluded.message, at = excluded.at";
    find_once [TEXT_ARRAY] = "SELECT key, body, status::smallint, answer, at FROM fanfare.once WHERE key = ANY ($1::text[])";
    /// A row of the same key is too old and takes its place.
    keep_once [TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.once (key, body, status, answer, at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::bigint[])
        ON CONFLICT (key) DO UPDATE SET body = excluded.body, status = excluded.status, answer = excluded.answer,
            at = excluded.at, number = DEFAULT";
    /// Deletes of the oldest what is too old, or too many, without waiting for who is at others.
    sweep_once [INT8, INT8, INT8] = "DELETE FROM fanfare.once WHERE number IN (
            SELECT number FROM (SELECT number, at FROM fanfare.once ORDER BY number LIMIT $1::bigint FOR UPDATE SKIP LOCKED)
                AS oldest
            WHERE at <= $2::bigint OR number <= (SELECT max(number) FROM fanfare.once) - $3::bigint
        )";
    find_rules [TEXT_ARRAY] = "SELECT video, slow_seconds, comments, version FROM fanfare.rules WHERE video = ANY ($1::text[])";
    /// Of members of videos, by their places in the arrays from 1, when a time-out ends, and when they commented last: the latter
    /// where slow mode is on, or may come on with this batch, that is, on the videos of the third array.
    find_members [TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "SELECT wanted.position, timeouts.until, CASE WHEN slow_seconds > 0 OR wanted.video = ANY ($3::text[])
            THEN (
                SELECT at FROM fanfare.posts WHERE kind = 0 AND place = wanted.video AND posts.member = wanted.member
                ORDER BY id DESC LIMIT 1
            ) END
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (video, member, position)
        LEFT JOIN fanfare.rules ON rules.video = wanted.video
        LEFT JOIN fanfare.timeouts ON timeouts.video = wanted.video AND timeouts.member = wanted.member";
    write_rules [TEXT_ARRAY, INT8_ARRAY, INT2_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.rules (video, slow_seconds, comments, version)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::smallint[], $4::bigint[])
        ON CONFLICT (video) DO UPDATE SET slow_seconds = excluded.slow_seconds, comments = excluded.comments,
            version = excluded.version";
    write_timeouts [TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY] = "INSERT INTO fanfare.timeouts (video, member, until)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
        ON CONFLICT (video, member) DO UPDATE SET until = excluded.until";
    /// Those of these videos that are over.
    end_timeouts [TEXT_ARRAY, INT8] = "DELETE FROM fanfare.timeouts WHERE video = ANY ($1::text[]) AND until <= $2";
    list_receipts [TEXT, TEXT, INT8] = "SELECT member, message, at FROM fanfare.receipts
        WHERE conversation = $1 AND member > $2 ORDER BY member LIMIT $3";
    open_hooks [TEXT_ARRAY] = "INSERT INTO fanfare.hooks (hook) SELECT * FROM unnest($1::text[])
        ON CONFLICT (hook) DO UPDATE SET ended = 0";
    /// Anything that is too old, and all states of hooks that are not named here.
    forget_hooks [TEXT_ARRAY, INT8] = format!("WITH old AS (DELETE FROM fanfare.hook_deliveries WHERE stored_at <= {NOW} - $2::bigint)
        DELETE FROM fanfare.hook_states WHERE hook <> ALL ($1::text[])");
    hook_comments [TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, INT8_ARRAY, INT2] = format!("WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS wanted (hook, subject, post, at)
        ), full_ones AS (
            UPDATE fanfare.hooks SET left_out = left_out + (SELECT count(*) FROM wanted WHERE wanted.hook = hooks.hook)
            WHERE ended = 0 AND is_full <> 0 AND hook IN (SELECT hook FROM wanted)
        )
        INSERT INTO fanfare.hook_deliveries (hook, subject, event, data, post, at, stored_at)
        SELECT hook, subject, $5::smallint, '', post, wanted.at, {NOW} FROM wanted LEFT JOIN fanfare.hooks USING (hook)
        WHERE coalesce(ended, 0) = 0 AND coalesce(is_full, 0) = 0 ORDER BY post");
    /// Of hooks that take something: those that begin, end and repeat (1, 2, 3), and the pause of the last. What a state's row
    /// says first follows from a lock on it, so what is stored of a subject is in the order of commits.
    note [TEXT_ARRAY, TEXT_ARRAY, INT2_ARRAY, INT8_ARRAY, INT8_ARRAY, INT2_ARRAY, TEXT_ARRAY, INT8_ARRAY] = format!("WITH wanted AS (
            SELECT wanted.*, coalesce(is_full, 0) AS is_full FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[],
                $6::smallint[], $7::text[], $8::bigint[])
                AS wanted (hook, subject, step, pause, version, event, data, at)
            LEFT JOIN fanfare.hooks USING (hook) WHERE coalesce(ended, 0) = 0
        ), full_ones AS (
            UPDATE fanfare.hooks SET left_out = left_out + (SELECT count(*) FROM wanted WHERE wanted.hook = hooks.hook)
            WHERE hook IN (SELECT hook FROM wanted WHERE is_full <> 0)
        ), newer AS (
            UPDATE fanfare.hook_states AS state SET version = wanted.version FROM wanted
            WHERE is_full = 0 AND step = 1 AND state.hook = wanted.hook AND state.subject = wanted.subject
                AND state.version < wanted.version
        ), begun AS (
            INSERT INTO fanfare.hook_states (hook, subject, version)
            SELECT hook, subject, version FROM wanted WHERE is_full = 0 AND step = 1 ORDER BY hook, subject
            ON CONFLICT DO NOTHING RETURNING hook, subject
        ), ended AS (
            DELETE FROM fanfare.hook_states AS state USING wanted
            WHERE is_full = 0 AND step = 2 AND state.hook = wanted.hook AND state.subject = wanted.subject
                AND state.version <= wanted.version
            RETURNING state.hook, state.subject
        ), repeated AS (
            INSERT INTO fanfare.hook_states AS state (hook, subject, version)
            SELECT hook, subject, version FROM wanted WHERE is_full = 0 AND step = 3 ORDER BY hook, subject
            ON CONFLICT (hook, subject) DO UPDATE SET version = excluded.version
                WHERE state.version + (SELECT pause FROM wanted WHERE wanted.hook = excluded.hook
                    AND wanted.subject = excluded.subject LIMIT 1) <= excluded.version
            RETURNING hook, subject
        )
        INSERT INTO fanfare.hook_deliveries (hook, subject, event, data, at, stored_at)
        SELECT hook, subject, event, data, wanted.at, {NOW} FROM wanted
        JOIN (SELECT * FROM begun UNION ALL SELECT * FROM ended UNION ALL SELECT * FROM repeated) AS changed USING (hook, subject)
        WHERE event >= 0");
    expire_deliveries [TEXT, INT8, INT8] = format!("DELETE FROM fanfare.hook_deliveries WHERE id IN (
            SELECT id FROM fanfare.hook_deliveries WHERE hook = $1 AND stored_at <= {NOW} - $2::bigint ORDER BY stored_at LIMIT $3)");
    forget_limited [TEXT, INT8] = format!("DELETE FROM fanfare.hook_states
        WHERE hook = $1 AND subject >= 'limit:' AND subject < 'limit;' AND version <= {NOW} - $2::bigint");
    /// How many wait, since when, and how many were left out since this was asked last; `$2` is how many may wait.
    look_at_hook [TEXT, INT8] = "WITH found AS (
            SELECT count(*) AS waiting, min(stored_at) AS oldest FROM fanfare.hook_deliveries WHERE hook = $1
        ), before AS (SELECT left_out FROM fanfare.hooks WHERE hook = $1
        ), set_full AS (
            UPDATE fanfare.hooks SET is_full = (waiting >= $2)::integer::smallint, left_out = 0 FROM found WHERE hook = $1
                AND (left_out > 0 OR is_full <> (waiting >= $2)::integer)
        )
        SELECT waiting, oldest, coalesce((SELECT left_out FROM before), 0)::bigint FROM found";
    /// One backend takes at a time, so that what another one takes at once is not taken for what is behind it.
    lock_hook [TEXT] = "SELECT sequence FROM fanfare.hooks WHERE hook = $1 AND ended = 0 FOR UPDATE";
    /// Claims what is due, and numbers what was not taken before: first what was taken already, and then what never was, of
    /// subjects of which nothing is under way or put off.
    take_deliveries [TEXT, INT8, INT8] = format!("WITH due AS (
            (SELECT id, sequence FROM fanfare.hook_deliveries AS due
            WHERE hook = $1 AND next_try > 0 AND next_try <= {NOW} AND NOT EXISTS (
                SELECT FROM fanfare.hook_deliveries AS older WHERE older.hook = due.hook AND older.subject = due.subject
                    AND older.next_try > due.next_try AND older.id < due.id
            ) ORDER BY next_try, id LIMIT $2)
            UNION ALL
            (SELECT id, sequence FROM fanfare.hook_deliveries AS new WHERE hook = $1 AND next_try = 0 AND NOT EXISTS (
                SELECT FROM fanfare.hook_deliveries AS tried WHERE tried.hook = new.hook AND tried.subject = new.subject
                    AND tried.next_try > 0
            ) ORDER BY id LIMIT $2)
            LIMIT $2
        ), numbered AS (
            SELECT id, row_number() OVER (ORDER BY id) AS further FROM due WHERE sequence = 0
        ), counted AS (
            UPDATE fanfare.hooks SET sequence = hooks.sequence + (SELECT count(*) FROM numbered) WHERE hook = $1
                AND EXISTS (SELECT FROM numbered)
        ), taken AS (
            UPDATE fanfare.hook_deliveries AS delivery SET next_try = {NOW} + $3::bigint,
                sequence = coalesce((SELECT hooks.sequence + further FROM numbered, fanfare.hooks
                    WHERE numbered.id = delivery.id AND hooks.hook = $1), delivery.sequence)
            WHERE id IN (SELECT id FROM due) RETURNING *
        )
        SELECT taken.id, taken.sequence, subject, event, data, taken.at, tries, post, place, member, text, deleted_at
        FROM taken LEFT JOIN fanfare.posts ON posts.id = taken.post ORDER BY taken.id");
    end_hook [TEXT] = "WITH waiting AS (DELETE FROM fanfare.hook_deliveries WHERE hook = $1),
        states AS (DELETE FROM fanfare.hook_states WHERE hook = $1)
        UPDATE fanfare.hooks SET ended = 1 WHERE hook = $1";
    delivered [TEXT, INT8_ARRAY] = "DELETE FROM fanfare.hook_deliveries WHERE hook = $1 AND id = ANY ($2::bigint[])";
    untried [TEXT, INT8_ARRAY] = format!("UPDATE fanfare.hook_deliveries SET next_try = {NOW} WHERE hook = $1 AND id = ANY ($2::bigint[])");
    /// What failed, by how long it waits, and with it what was taken of its subject. However much waits behind those is not touched.
    put_off [TEXT, INT8_ARRAY, INT8_ARRAY] = format!("UPDATE fanfare.hook_deliveries AS delivery
        SET next_try = {NOW} + failed.pause, tries = tries + (delivery.id = failed.id)::integer
        FROM (
            SELECT failed.id, failed.pause, subject FROM unnest($2::bigint[], $3::bigint[]) AS failed (id, pause)
            JOIN fanfare.hook_deliveries AS known USING (id) WHERE known.hook = $1
        ) AS failed WHERE delivery.hook = $1 AND delivery.subject = failed.subject
            AND (delivery.next_try > {NOW} OR delivery.id = failed.id)");
    list_hook_states [TEXT, TEXT, INT8] = "SELECT subject, version FROM fanfare.hook_states WHERE hook = $1 AND subject > $2
            AND NOT (subject >= 'limit:' AND subject < 'limit;') ORDER BY subject LIMIT $3";
}
