//! The requests of a batch that are done once: those that were done before are looked up, and new ones kept.
use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::db::once::{Once, Stored};
use crate::db::{Command, Outcome, StoreError, once};

#[derive(Debug, Default)]
pub(crate) struct Onces<'a> {
    /// None for those that were not done.
    known: BTreeMap<&'a str, Option<Stored>>,
    /// By this batch.
    new: Vec<&'a str>,
}

/// New ones as the columns that a statement takes.
pub(crate) type Columns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<i16>, Vec<&'a str>, Vec<i64>);

impl<'a> Onces<'a> {
    pub(crate) fn add(&mut self, command: &'a Command) {
        if let Command::Once { once, .. } = command {
            self.known.insert(&once.key, None);
        }
    }

    /// What has to be looked up, in order.
    pub(crate) fn keys(&self) -> Vec<&'a str> {
        self.known.keys().copied().collect()
    }

    pub(crate) fn found(&mut self, rows: &[Row]) {
        for row in rows {
            let status = once::status(row.get::<_, i16>(2).cast_unsigned());
            let at = row.get::<_, i64>(4).max(0).cast_unsigned();
            if let Some(known) = self.known.get_mut(row.get::<_, &str>(0)) {
                *known = Some(Stored { body: row.get(1), status, answer: row.get(3), at });
            }
        }
    }

    /// What the request came to before, if it did, be it in this batch.
    pub(crate) fn repeated(&self, once: &Once) -> Option<Outcome> {
        self.known.get(once.key.as_str())?.as_ref().and_then(|stored| once.repeated(stored))
    }

    /// Keeps what one came to.
    pub(crate) fn keep(&mut self, once: &'a Once, result: &Result<Outcome, StoreError>) {
        if let Some(stored) = result.as_ref().ok().and_then(|outcome| once.stored(outcome)) {
            self.known.insert(&once.key, Some(stored));
            self.new.push(&once.key);
        }
    }

    /// What is to be stored.
    pub(crate) fn kept(&self) -> Columns<'_> {
        let mut columns = Columns::default();
        for key in &self.new {
            let Some(Some(stored)) = self.known.get(key) else { continue };
            columns.0.push(key);
            columns.1.push(&stored.body);
            columns.2.push(stored.status.code().cast_signed());
            columns.3.push(&stored.answer);
            columns.4.push(stored.at.min(i64::MAX.cast_unsigned()).cast_signed());
        }
        columns
    }

    /// When the newest of them came, in Unix milliseconds.
    pub(crate) fn newest(&self) -> i64 {
        self.kept().4.into_iter().max().unwrap_or(0)
    }
}
