//! A process whose cores each have one client and are turned one at a time: for what a single turn does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::ground::Parts;
use fanfare::ground::authorize::Authorizer;
use fanfare::ground::message::Message;
use fanfare::ground::node::Node;
use fanfare::kv::KeyValue;
use fanfare::limits::{MAILBOX_MESSAGES, TICK};
use fanfare::roles::{self, Ways};
use fanfare::runtime::clock::Times;
use fanfare::runtime::mailbox::{self, Sender};
use fanfare::runtime::net::{INTERNAL, Net, PUBLIC, Simulated, Socket, token_of};
use fanfare::runtime::random::seed_tables;
use fanfare::runtime::readiness::Ready;
use fanfare::settings::Settings;
use fanfare::shard::Shard;
use fanfare::wire::connection_id::NodeId;

use crate::world::{BEGIN, UNIX};

/// What a client does of its own.
pub trait Client: Send + 'static {
    /// It is read: how much it sends, if it has something.
    fn is_read(&mut self, into: &mut [u8]) -> Option<usize>;

    /// It is sent this.
    fn is_sent(&mut self, _: &[u8]) {}

    /// How many bytes of so many the kernel takes for it.
    fn takes(&mut self, bytes: usize) -> usize {
        bytes
    }

    /// Its connection ends.
    fn is_closed(&mut self) {}
}

/// The network of a core with this client alone, which comes once.
struct Lone<C> {
    client: C,
    came: bool,
    token: Arc<AtomicUsize>,
}

impl<C: Client> Simulated for Lone<C> {
    fn accept(&mut self, door: usize) -> io::Result<Option<Socket>> {
        let is_first = matches!(door, PUBLIC | INTERNAL) && !std::mem::replace(&mut self.came, true);
        Ok(is_first.then(|| Socket::simulated(1.try_into().expect("it is not zero"))))
    }

    fn recv(&mut self, _: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(self.client.is_read(into))
    }

    fn send(&mut self, _: &Socket, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.client.takes(bytes.len());
        self.client.is_sent(&bytes[..taken]);
        Ok(taken)
    }

    fn watch(&mut self, _: &Socket, token: u64) -> io::Result<()> {
        self.token.store(token as usize, Ordering::Relaxed);
        Ok(())
    }

    fn open(&mut self, _: usize, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn connect(&mut self, _: SocketAddr) -> io::Result<Socket> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn error(&mut self, _: &Socket) -> io::Result<()> {
        Ok(())
    }

    fn peer(&self, _: &Socket) -> Option<IpAddr> {
        Some(Ipv4Addr::LOCALHOST.into())
    }

    fn shut(&mut self, _: &Socket) {}

    fn close(&mut self, _: Socket) {
        self.client.is_closed();
    }

    fn resident(&self) -> u64 {
        0
    }

    fn rest(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// The process, and each core's client as the core knows it.
pub struct Process {
    pub node: Arc<Node>,
    shards: Vec<Shard>,
    tokens: Vec<Arc<AtomicUsize>>,
    /// Milliseconds since it began.
    passed_ms: Arc<AtomicU64>,
}

/// Time that stands still.
pub fn times() -> Times {
    times_of(Arc::default())
}

/// Time of which so many milliseconds have passed.
fn times_of(passed_ms: Arc<AtomicU64>) -> Times {
    let begin = *BEGIN;
    Times::simulated(move || {
        let passed = Duration::from_millis(passed_ms.load(Ordering::Relaxed));
        (begin + passed, UNIX + passed)
    })
}

impl Process {
    /// With as many cores as clients; each client may know the mailboxes of all.
    pub fn start<C: Client, const CORES: usize>(
        settings: &Settings,
        kv: Option<Arc<dyn KeyValue>>,
        clients: impl FnOnce(&[Sender<Message>; CORES]) -> [C; CORES],
    ) -> Process {
        Process::asking(settings, kv, None, clients)
    }

    /// The same, of which this is asked who may do what.
    pub fn asking<C: Client, const CORES: usize>(
        settings: &Settings,
        kv: Option<Arc<dyn KeyValue>>,
        authorizer: Option<Arc<dyn Authorizer>>,
        clients: impl FnOnce(&[Sender<Message>; CORES]) -> [C; CORES],
    ) -> Process {
        seed_tables(1);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let passed_ms: Arc<AtomicU64> = Arc::default();
        let times = || times_of(Arc::clone(&passed_ms));
        let mailboxes = [(); CORES].map(|()| mailbox::mailbox::<Message>(MAILBOX_MESSAGES).expect("an eventfd"));
        let clients = clients(&mailboxes.each_ref().map(|(mail, _)| mail.clone()));
        let ways = Ways {
            id: NodeId(1),
            times: times(),
            public: address,
            internal: address,
            certificates: None,
            tokens: None,
            mail: mailboxes.iter().map(|(mail, _)| mail.clone()).collect(),
            kv,
            resolver: None,
            store: None,
            hook_sender: None,
            spans: None,
            authorizer,
            memory: 1 << 32,
            connections: 10,
        };
        let (node, live) = roles::assemble(settings, ways).expect("the settings are right");
        let tokens: Vec<Arc<AtomicUsize>> = clients.iter().map(|_| Arc::default()).collect();
        let shards = mailboxes.into_iter().zip(clients).enumerate().map(|(id, ((_, mailbox), client))| {
            let net = Net::Simulated(Box::new(Lone { client, came: false, token: Arc::clone(&tokens[id]) }));
            let (node, live) = (Arc::clone(&node), Arc::clone(&live));
            Shard::start(Parts { id, node, live, mailbox, net, times: times(), seed: 1, key: (1, 2) })
        });
        Process { shards: shards.collect(), node, tokens, passed_ms: Arc::clone(&passed_ms) }
    }

    /// A turn of this core, in which its client comes.
    pub fn comes(&mut self, core: usize) {
        self.readable(core, token_of(PUBLIC));
    }

    /// The same, by the internal listener.
    pub fn comes_inside(&mut self, core: usize) {
        self.readable(core, token_of(INTERNAL));
    }

    /// So much time passes, in which all do what there is to do.
    pub fn passes(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.passed_ms.fetch_add(TICK.as_millis() as u64, Ordering::Relaxed);
            for _ in 0..4 {
                for shard in &mut self.shards {
                    shard.turn(&[]);
                }
            }
        }
    }

    /// A turn of this core, to which its client has sent.
    pub fn has_sent(&mut self, core: usize) {
        self.readable(core, self.tokens[core].load(Ordering::Relaxed) as u64);
    }

    fn readable(&mut self, core: usize, token: u64) {
        self.shards[core].turn(&[Ready { token, readable: true, writable: false, hung_up: false, over: false }]);
    }

    /// All do what there is to do.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            for shard in &mut self.shards {
                shard.turn(&[]);
            }
        }
    }
}
