//! What is true once a request is answered: whoever has the answer may ask another core next, and that one must know already what
//! follows from the first request, or find it waiting before its own.

use std::sync::{Arc, Mutex};

use fanfare::ground::message::Message;
use fanfare::kv::memory::MemoryKv;
use fanfare::runtime::mailbox::Sender;
use fanfare::settings::{Flags, Role, Settings};

use crate::lone::{Client, Process, times};

/// A client which sends this once.
struct Once {
    request: Option<&'static [u8]>,
    answers: Arc<Mutex<Answers>>,
    /// Into the other core's mailbox.
    other: Sender<Message>,
}

/// What a client was sent, and how many messages waited for the other core when the first of it was.
#[derive(Default)]
struct Answers {
    text: String,
    waiting: Option<usize>,
}

impl Client for Once {
    fn is_read(&mut self, into: &mut [u8]) -> Option<usize> {
        self.request.take().map(|request| {
            into[..request.len()].copy_from_slice(request);
            request.len()
        })
    }

    fn is_sent(&mut self, bytes: &[u8]) {
        let mut answers = self.answers.lock().expect("nobody panicked");
        answers.waiting.get_or_insert(self.other.len());
        answers.text += &String::from_utf8_lossy(bytes);
    }
}

const STREAM: &[u8] = b"GET /v1/events?topic=room:1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const EVENT: &[u8] = b"POST /v1/topics/room:1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                       Content-Length: 15\r\n\r\n{\"type\":\"wave\"}";
const LINES: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                       Content-Length: 33\r\n\r\n{\"topic\":\"room:1\",\"type\":\"wave\"}\n";

#[test]
fn answer_that_precedes_what_it_tells_of() {
    let settings = Settings::resolve(Role::All, &Flags::default(), []).expect("the defaults are right");
    for request in [EVENT, LINES] {
        let answers = [(); 2].map(|()| Arc::<Mutex<Answers>>::default());
        let kv = Arc::new(MemoryKv::new(3_600_000, times()));
        let mut process = Process::start(&settings, Some(kv), |mail: &[_; 2]| {
            [(0, request), (1, STREAM)].map(|(core, request)| Once {
                request: Some(request),
                answers: Arc::clone(&answers[core]),
                other: mail[1 - core].clone(),
            })
        });
        process.comes(1);
        process.settle();
        assert!(answers[1].lock().unwrap().text.contains("event: connected"), "the stream is connected");
        process.comes(0);
        let answer = answers[0].lock().unwrap();
        assert!(answer.text.starts_with("HTTP/1.1 202"), "{}", answer.text);
        assert_eq!(answer.waiting, Some(1), "the event waits for the core that has the viewer when it is acknowledged");
        drop(answer);
        process.settle();
        assert!(answers[1].lock().unwrap().text.contains(r#""type":"wave""#), "the viewer has it");
    }
}
