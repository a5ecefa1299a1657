//! What a node does when it is told something by a signal.

use std::ffi::c_int;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::ground::live::Live;
use crate::ground::message::Message;
use crate::ground::node::Node;
use crate::observe::{happenings, log};
use crate::roles::notify::Notifier;
use crate::settings::Flags;
use crate::settings::{Reloaded, Settings};

/// Hears those that end nothing, from the start on: without somebody who hears them, the kernel would end the process.
pub(super) fn harmless() -> io::Result<Signals> {
    Signals::new([SIGHUP, SIGUSR1, SIGUSR2])
}

/// Hears those that end the node too: before it greets anybody, and only once somebody will act on them.
pub(super) fn and_ends(signals: &mut Signals) -> io::Result<()> {
    [SIGTERM, SIGINT, SIGQUIT].into_iter().try_for_each(|signal| signals.add_signal(signal))
}

/// A node that runs, as its signals see it.
pub(super) struct Told {
    pub node: Arc<Node>,
    pub notifier: Option<Arc<Notifier>>,
    pub settings: Settings,
    pub flags: Flags,
    /// Whether somebody at a terminal started it.
    pub on_terminal: bool,
}

impl Told {
    /// Hears all of them, by a thread of its own, until the process ends.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn listen(mut self, mut signals: Signals) -> io::Result<()> {
        let listen = move || signals.forever().for_each(|signal| self.on_signal(signal));
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
    }

    fn on_signal(&mut self, signal: c_int) {
        match signal {
            // The terminal that the node was started on is closed: its user is gone, and no settings changed.
            SIGHUP if self.on_terminal && !io::stderr().is_terminal() => self.drain(signal),
            SIGHUP if self.node.draining.load(Ordering::Acquire) => info!("draining; settings are not read again"),
            SIGHUP => self.reload(),
            SIGUSR1 => log::write_happenings(&happenings::for_log(&self.node.counters)),
            SIGUSR2 => info!(signal, "this signal means nothing here; ignored"),
            _ => self.drain(signal),
        }
    }

    fn drain(&self, signal: c_int) {
        if self.node.draining.swap(true, Ordering::AcqRel) {
            warn!(signal, "second signal: ending at once");
            log::flush();
            std::process::exit(1);
        }
        let drain = self.settings.drain;
        info!(signal, drain_seconds = drain.as_secs(), "draining; a second signal ends at once");
        if let Some(notifier) = &self.notifier {
            notifier.stopping(drain);
        }
        self.tell(|| Message::Drain);
    }

    /// Reads the settings again. What is bad changes nothing; what needs a restart is named.
    fn reload(&mut self) {
        let Reloaded { settings, taken, waiting } = match self.settings.reload(&self.flags, std::env::vars_os()) {
            Ok(reloaded) => reloaded,
            Err(error) => return error!(%error, "the new settings will not do; the old ones hold"),
        };
        for warning in &settings.warnings {
            warn!("{warning}");
        }
        if !waiting.is_empty() {
            warn!(settings = waiting.join(", "), "changed, and hold only after a restart");
        }
        self.settings = settings;
        self.node.admission.bound(&self.settings.most, &self.settings.trusted_proxy);
        if let Some(kv) = &self.node.kv {
            kv.bound(self.node.admission.memory().1);
        }
        let live = Arc::new(Live::of(&self.settings, &self.node.admission));
        self.tell(|| Message::Live(Arc::clone(&live)));
        // Before the filter changes, which might not let it pass.
        info!(changed = taken.join(", "), "settings read again");
        log::reload(&self.settings.log);
    }

    fn tell(&self, message: impl Fn() -> Message) {
        for mail in &self.node.mail {
            // The shard is gone only when the node ends.
            let _ = mail.send(message());
        }
    }
}
