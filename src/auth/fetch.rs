//! Keys that an issuer serves at a URL, as a JWKS: kept, fetched again now and then, and for a token whose key is not known.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use ureq::Agent;
use url::Url;

use super::KEY_FILE_BYTES_MAX;
use super::keys::Keys;
use super::watch::{Shared, SharedKeys};
use crate::runtime::tls::requests_config;

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Fetches are this far apart, whatever tokens come.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// After so long keys are fetched again, so that one which is served no more counts no more.
const FETCHED_AGE: Duration = Duration::from_secs(600);

/// By which shards ask for new keys. Asking never waits.
#[derive(Debug, Clone)]
pub struct Refetch(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    wake: Sender<()>,
    /// When the last fetch began, in Unix ms.
    begun_ms: AtomicU64,
    under_way: AtomicBool,
}

impl Refetch {
    /// A token names a key that is not known. Whether it may be known soon, as of `now_ms` (Unix ms): keys are being fetched, or
    /// will be at once, since the last time is long enough ago.
    pub fn may_help(&self, now_ms: u64) -> bool {
        let since = now_ms.saturating_sub(self.0.begun_ms.load(Ordering::Acquire));
        let is_due = since >= FETCH_EVERY.as_millis() as u64;
        if is_due {
            // It was asked already if there is no room.
            let _ = self.0.wake.try_send(());
        }
        is_due || self.0.under_way.load(Ordering::Acquire)
    }
}

/// Fetches keys, by a thread of its own that ends when this is dropped.
pub struct Fetcher {
    keys: SharedKeys,
    refetch: Refetch,
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Fetcher {
    /// Fetches the keys once, and goes on by itself. If they are not to be had now, there are none yet; then, and later, old
    /// ones hold until there are new ones, and the log says so.
    ///
    /// # Errors
    /// This machine trusts no authority, or has no thread left.
    pub fn start(url: &Url) -> Result<Fetcher, String> {
        let agent = agent(url)?;
        let keys = Shared::new(Keys::none());
        let (wake, woken) = bounded(1);
        let (stop, stopped) = bounded(0);
        let asked = Asked { wake, begun_ms: AtomicU64::new(0), under_way: AtomicBool::new(false) };
        let refetch = Refetch(Arc::new(asked));
        let mut work =
            Work { url: url.clone(), agent, keys: keys.clone(), asked: Arc::clone(&refetch.0), fails: false };
        let is_there = work.fetch();
        let run = move || work.run(is_there, &woken, &stopped);
        let thread = std::thread::Builder::new().name("fetch-keys".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("no thread to fetch them: {error}"))?;
        Ok(Fetcher { keys, refetch, stop: Some(stop), thread: Some(thread) })
    }

    /// What holds, for the shards.
    pub fn keys(&self) -> SharedKeys {
        self.keys.clone()
    }

    /// How shards ask for new ones.
    pub fn refetch(&self) -> Refetch {
        self.refetch.clone()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    url: Url,
    agent: Agent,
    keys: SharedKeys,
    asked: Arc<Asked>,
    /// The last fetch failed, which was logged.
    fails: bool,
}

impl Work {
    fn run(mut self, mut is_there: bool, woken: &Receiver<()>, stopped: &Receiver<Infallible>) {
        loop {
            let pause = if is_there { FETCHED_AGE } else { FETCH_EVERY };
            select! {
                recv(stopped) -> _ => return,
                recv(woken) -> _ => {}
                default(pause) => {}
            }
            is_there = self.fetch();
        }
    }

    /// Whether keys were to be had.
    fn fetch(&mut self) -> bool {
        self.asked.under_way.store(true, Ordering::Release);
        self.asked.begun_ms.store(unix_ms(), Ordering::Release);
        let fetched = self.try_fetch();
        let is_there = fetched.is_ok();
        match fetched {
            Ok(keys) if keys == **self.keys.load() => {}
            Ok(keys) => {
                let (url, count, algorithms) = (self.url.as_str(), keys.count(), keys.algorithms());
                tracing::info!(url, count, algorithms, "keys for tokens fetched");
                self.keys.replace(keys);
            }
            Err(problem) if !self.fails => {
                tracing::warn!(
                    url = self.url.as_str(),
                    problem,
                    "keys for tokens are not to be had; those that are known stay"
                );
            }
            Err(_) => {}
        }
        self.fails = !is_there;
        self.asked.under_way.store(false, Ordering::Release);
        is_there
    }

    fn try_fetch(&self) -> Result<Keys, String> {
        let mut response = self.agent.get(self.url.as_str()).call().map_err(|error| error.to_string())?;
        let body = response.body_mut().with_config().limit(KEY_FILE_BYTES_MAX).read_to_vec();
        Keys::of_issuer(&body.map_err(|error| error.to_string())?)
            .map_err(|(problem, remedy)| format!("{problem}; {remedy}"))
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A client that trusts whom this machine trusts.
fn agent(url: &Url) -> Result<Agent, String> {
    let is_secure = url.scheme() == "https";
    let config = Agent::config_builder()
        .tls_config(requests_config(is_secure)?)
        .https_only(is_secure)
        .timeout_global(Some(FETCH_TIMEOUT))
        .max_redirects(3)
        .build();
    Ok(config.new_agent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_for_an_unknown_one_at_most_once_in_ten_seconds() {
        let (wake, woken) = bounded(1);
        let asked = Asked { wake, begun_ms: AtomicU64::new(100_000), under_way: AtomicBool::new(false) };
        let refetch = Refetch(Arc::new(asked));
        assert!(!refetch.may_help(109_999) && woken.is_empty());
        assert!(refetch.may_help(110_000) && refetch.may_help(110_001));
        assert_eq!(woken.try_iter().count(), 1);
        refetch.0.begun_ms.store(110_001, Ordering::Release);
        refetch.0.under_way.store(true, Ordering::Release);
        assert!(refetch.may_help(110_002) && woken.is_empty(), "it is under way");
    }
}
