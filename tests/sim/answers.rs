//! What is true once a request is answered: whoever has the answer may ask another core next, and that one must know already what
//! follows from the first request, or find it waiting before its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::ground::Parts;
use fanfare::ground::message::Message;
use fanfare::kv::memory::MemoryKv;
use fanfare::limits::MAILBOX_MESSAGES;
use fanfare::roles::{self, Ways};
use fanfare::runtime::clock::Times;
use fanfare::runtime::mailbox::{self, Sender};
use fanfare::runtime::net::{Net, PUBLIC, Simulated, Socket, token_of};
use fanfare::runtime::readiness::Ready;
use fanfare::settings::{Flags, Role, Settings};
use fanfare::shard::Shard;
use fanfare::wire::connection_id::NodeId;

use crate::world::{BEGIN, UNIX};

/// A shard's only client, which sends this once, and what it was sent.
struct Once {
    request: Option<&'static [u8]>,
    came: bool,
    token: Arc<AtomicUsize>,
    answers: Arc<Mutex<Answers>>,
    /// Into the other shard's mailbox.
    other: Sender<Message>,
}

/// What a client was sent, and how many messages waited for the other shard when the first of it was.
#[derive(Default)]
struct Answers {
    text: String,
    waiting: Option<usize>,
}

impl Simulated for Once {
    fn accept(&mut self, door: usize) -> io::Result<Option<Socket>> {
        let is_first = door == PUBLIC && !std::mem::replace(&mut self.came, true);
        Ok(is_first.then(|| Socket::simulated(1.try_into().expect("it is not zero"))))
    }

    fn recv(&mut self, _: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(self.request.take().map(|request| {
            into[..request.len()].copy_from_slice(request);
            request.len()
        }))
    }

    fn send(&mut self, _: &Socket, bytes: &[u8]) -> io::Result<usize> {
        let mut answers = self.answers.lock().expect("nobody panicked");
        answers.waiting.get_or_insert(self.other.len());
        answers.text += &String::from_utf8_lossy(bytes);
        Ok(bytes.len())
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

    fn close(&mut self, _: Socket) {}

    fn resident(&self) -> u64 {
        0
    }

    fn rest(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// One process of two shards, each of which has a client with a request.
struct Two {
    shards: Vec<Shard>,
    answers: Vec<Arc<Mutex<Answers>>>,
}

impl Two {
    fn start(requests: [&'static [u8]; 2]) -> Two {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let settings = Settings::resolve(Role::All, &Flags::default(), []).expect("the defaults are right");
        let begin = *BEGIN;
        let times = Times::simulated(move || (begin, UNIX));
        let mailboxes = [0, 1].map(|_| mailbox::mailbox::<Message>(MAILBOX_MESSAGES).expect("an eventfd"));
        let ways = Ways {
            id: NodeId(1),
            times: times.clone(),
            public: address,
            internal: address,
            certificates: None,
            tokens: None,
            mail: mailboxes.iter().map(|(sender, _)| sender.clone()).collect(),
            kv: Some(Arc::new(MemoryKv::new(3_600_000, times.clone()))),
            resolver: None,
            store: None,
            memory: 1 << 32,
            connections: 10,
        };
        let (node, live) = roles::assemble(&settings, ways).expect("the defaults are right");
        let answers: Vec<Arc<Mutex<Answers>>> = requests.iter().map(|_| Arc::default()).collect();
        let shards = mailboxes.into_iter().zip(requests).enumerate().map(|(id, ((_, mailbox), request))| {
            let other = node.mail[1 - id].clone();
            let client = Once {
                request: Some(request),
                came: false,
                token: Arc::default(),
                answers: Arc::clone(&answers[id]),
                other,
            };
            let net = Net::Simulated(Box::new(client));
            let (node, live, times) = (Arc::clone(&node), Arc::clone(&live), times.clone());
            Shard::start(Parts { id, node, live, mailbox, net, times, seed: 1, key: (1, 2) })
        });
        Two { shards: shards.collect(), answers }
    }

    /// A shard's client comes.
    fn comes(&mut self, shard: usize) {
        let token = token_of(PUBLIC);
        self.shards[shard].turn(&[Ready { token, readable: true, writable: false, hung_up: false, over: false }]);
    }

    /// Both do what there is to do.
    fn settle(&mut self) {
        for _ in 0..100 {
            for shard in &mut self.shards {
                shard.turn(&[]);
            }
        }
    }
}

const STREAM: &[u8] = b"GET /v1/events?topic=room:1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const EVENT: &[u8] = b"POST /v1/topics/room:1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                       Content-Length: 15\r\n\r\n{\"type\":\"wave\"}";
const LINES: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                       Content-Length: 33\r\n\r\n{\"topic\":\"room:1\",\"type\":\"wave\"}\n";

#[test]
fn answer_that_precedes_what_it_tells_of() {
    for request in [EVENT, LINES] {
        let mut two = Two::start([request, STREAM]);
        two.comes(1);
        two.settle();
        assert!(two.answers[1].lock().unwrap().text.contains("event: connected"), "the stream is connected");
        two.comes(0);
        let answers = two.answers[0].lock().unwrap();
        assert!(answers.text.starts_with("HTTP/1.1 202"), "{}", answers.text);
        assert_eq!(
            answers.waiting,
            Some(1),
            "the event waits for the core that has the viewer when it is acknowledged"
        );
        drop(answers);
        two.settle();
        assert!(two.answers[1].lock().unwrap().text.contains(r#""type":"wave""#), "the viewer has it");
    }
}
