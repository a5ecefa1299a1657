//! The key-value store of a node that has one of its own; an embedded one has its history in the node's database.

use std::sync::Arc;

use crate::db::Store;
use crate::db::sqlite;
use crate::ground::keeping::Keeping;
use crate::ground::message::{Message, Ticket};
use crate::kv::KeyValue;
use crate::kv::kept::Kept;
use crate::kv::memory::MemoryKv;
use crate::kv::redis;
use crate::runtime::clock::Times;
use crate::runtime::{mailbox, trim};
use crate::settings::SettingsError;
use crate::settings::{Database, Kv, Role, Settings};

/// The key-value store of a node that has one of its own; Frontends and Backends ask dispatchers.
pub(super) fn open(
    settings: &Settings,
    mail: &[mailbox::Sender<Message>],
    store: Option<&Store<Ticket>>,
) -> Result<Option<Arc<dyn KeyValue>>, SettingsError> {
    let times = Times::machine();
    let kept = begin(settings, times.unix_ms())?;
    match (settings.role, &settings.kv) {
        (Role::Frontend | Role::Backend, _) => Ok(None),
        (_, Kv::Memory) => {
            let age_ms = history_age_ms(settings);
            Ok(Some(Arc::new(match (kept, store) {
                (Some(kept), Some(store)) => {
                    let keeping = Keeping::new(store.clone(), mail.to_vec(), times.clone());
                    let kv = MemoryKv::kept(age_ms, times, kept, Arc::new(keeping));
                    // What was read and is too old would count as the program's own for as long as it runs.
                    trim::give_back();
                    kv
                }
                _ => MemoryKv::new(age_ms, times),
            })))
        }
        (_, Kv::Redis(url)) => {
            let config = redis::Config {
                dc: settings.dc.clone(),
                history_age_ms: history_age_ms(settings),
                sweeps: true,
                shards: mail.len(),
                presence: redis::PresenceTimes::default(),
            };
            let mail = mail.to_vec();
            let tell = Arc::new(move |shard: usize, heard| {
                // The shard is gone only when the node is; then nobody waits for the answer.
                let _ = mail[shard].send(Message::Kv(Box::new(heard)));
            });
            let kv = redis::start(url, config, tell)
                .map_err(|error| settings.refuse("kv", &error.to_string(), redis::REMEDY))?;
            Ok(Some(Arc::new(kv)))
        }
    }
}

/// The longest time for which any event type is kept in history, which is how long it is known that a topic had events.
fn history_age_ms(settings: &Settings) -> u64 {
    settings.events.values().filter_map(|event| event.max_age).max().map_or(0, |age| age.as_millis() as u64)
}

/// The history that a node with an embedded key-value store and a database of its own begins with. Where history is kept
/// elsewhere from now on, what was kept here is forgotten, since nobody would know what is missing behind it.
fn begin(settings: &Settings, now_ms: u64) -> Result<Option<Kept>, SettingsError> {
    let (Role::All | Role::Backend, Database::Sqlite(path)) = (settings.role, &settings.db) else { return Ok(None) };
    let is_kept = settings.role == Role::All && settings.kv == Kv::Memory;
    let kept = if is_kept { sqlite::kept(path, now_ms).map(Some) } else { sqlite::forget_kept(path).map(|()| None) };
    let remedy = "give a path that this user can write, as sqlite:PATH";
    kept.map_err(|error| settings.refuse("db", &error.to_string(), remedy))
}
