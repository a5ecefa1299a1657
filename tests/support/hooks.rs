//! A receiver of hooks: it checks each signature by itself, notes what comes, and answers as it is told to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

/// What a delivery is signed by.
pub const KEY: &[u8] = b"a key of the tests, of 32 bytes.";

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// 204.
    Taken,
    /// With this status.
    Status(u16),
    /// To go to the path `/elsewhere`, where all is taken.
    Redirect,
    /// What is no HTTP.
    Garbage,
    /// Nothing, for as long as somebody waits.
    Nothing,
    /// 204, a moment later.
    Slowly,
}

/// A delivery as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub id: String,
    pub body: Value,
    pub text: String,
    /// The header that signs it.
    pub signature: String,
    pub timestamp: String,
}

impl Delivery {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().expect("a type")
    }

    pub fn subject(&self) -> &str {
        self.body["subject"].as_str().expect("a subject")
    }

    pub fn sequence(&self) -> u64 {
        self.body["sequence"].as_u64().expect("a number")
    }
}

#[derive(Debug)]
struct Seen {
    answers: Answers,
    /// What was answered with 204, in the order of the answers.
    taken: Vec<Delivery>,
    /// All that came.
    tried: Vec<Delivery>,
    elsewhere: usize,
    wrong: Vec<String>,
}

/// See the [module](self).
pub struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// One that takes all.
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        let (taken, tried, wrong) = Default::default();
        let seen = Arc::new(Mutex::new(Seen { answers: Answers::Taken, taken, tried, elsewhere: 0, wrong }));
        let noted = Arc::clone(&seen);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&noted);
                std::thread::spawn(move || serve(socket, &seen));
            }
        });
        Receiver { address, seen }
    }

    /// From now on it answers so.
    pub fn answer(&self, answers: Answers) {
        self.lock().answers = answers;
    }

    /// A file of settings, with its secret beside it.
    pub fn settings(&self, folder: &Path, events: &[&str]) -> PathBuf {
        let secret = folder.join("hook.secret");
        std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode(KEY))).expect("the folder is ours");
        let file = folder.join("hooks.toml");
        std::fs::write(&file, self.table(&secret, events)).expect("the folder is ours");
        file
    }

    /// A table `[[hooks]]`.
    pub fn table(&self, secret: &Path, events: &[&str]) -> String {
        format!("[[hooks]]\nurl = \"http://{}/hooks\"\nevents = {events:?}\nsecret_file = {secret:?}\n", self.address)
    }

    /// What was taken, whatever came of that.
    pub fn taken(&self) -> Vec<Delivery> {
        let seen = self.lock();
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        assert_eq!(seen.elsewhere, 0, "a redirect was followed");
        seen.taken.clone()
    }

    /// All that came, also what was not taken.
    pub fn tried(&self) -> Vec<Delivery> {
        self.lock().tried.clone()
    }

    /// What was taken, each once, by its id. Checks that repeats are the same, and that what came of each subject is in the order
    /// of its numbers.
    pub fn taken_once(&self) -> Vec<Delivery> {
        let mut known: BTreeMap<String, Delivery> = BTreeMap::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let mut once = Vec::new();
        for delivery in self.taken() {
            if let Some(before) = known.get(&delivery.id) {
                assert_eq!(before.text, delivery.text, "a repeat is another");
                continue;
            }
            let before = last.insert(delivery.subject().to_owned(), delivery.sequence());
            assert!(before.is_none_or(|before| before < delivery.sequence()), "{delivery:?} after {before:?}");
            known.insert(delivery.id.clone(), delivery.clone());
            once.push(delivery);
        }
        let mut numbers: Vec<u64> = once.iter().map(Delivery::sequence).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), once.len(), "two have one number");
        once
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody fails with it")
    }
}

fn serve(mut socket: TcpStream, seen: &Mutex<Seen>) {
    let mut bytes = Vec::new();
    while let Some((head, body)) = read(&mut socket, &mut bytes) {
        let (result, answers) = {
            let mut seen = seen.lock().expect("nobody fails with it");
            if !head.starts_with("POST /hooks HTTP/1.1\r\n") {
                seen.elsewhere += 1;
            }
            (check(&head, body), seen.answers)
        };
        let delivery = match result {
            Ok(delivery) => delivery,
            Err(problem) => return seen.lock().expect("nobody fails with it").wrong.push(problem),
        };
        if answers == Answers::Slowly {
            std::thread::sleep(Duration::from_millis(300));
        }
        let taken = matches!(answers, Answers::Taken | Answers::Slowly);
        {
            let mut seen = seen.lock().expect("nobody fails with it");
            seen.tried.push(delivery.clone());
            if taken {
                seen.taken.push(delivery);
            }
        }
        let answer = match answers {
            Answers::Taken | Answers::Slowly => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Answers::Status(status) => format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 4\r\n\r\nlate"),
            Answers::Redirect => "HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Answers::Garbage => "who is there?\r\n\r\n".to_owned(),
            Answers::Nothing => {
                // Until whoever waits has had enough.
                let _ = socket.read(&mut [0; 64]);
                return;
            }
        };
        if socket.write_all(answer.as_bytes()).is_err() || answers == Answers::Garbage {
            return;
        }
    }
}

/// A request's head and body.
pub(super) fn read(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end + 2].to_vec()).ok()?;
            let length: usize = header(&head, "content-length")?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        let mut more = [0; 4096];
        match socket.read(&mut more) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&more[..count]),
            _ => return None,
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A delivery, whose signature is looked at.
pub(super) fn check(head: &str, body: Vec<u8>) -> Result<Delivery, String> {
    let get = |name: &str| header(head, name).ok_or(format!("no {name}: {head}"));
    let (id, timestamp, signature) = (get("webhook-id")?, get("webhook-timestamp")?, get("webhook-signature")?);
    let text = String::from_utf8(body).map_err(|error| error.to_string())?;
    let signed = format!("{id}.{timestamp}.{text}");
    let given = signature.strip_prefix("v1,").and_then(|code| STANDARD.decode(code).ok()).ok_or("no signature")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    hmac::verify(&key, signed.as_bytes(), &given).map_err(|_| format!("a wrong signature: {head}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let sent: u64 = timestamp.parse().map_err(|_| "no time")?;
    if now.abs_diff(sent) > 60 || get("content-type")? != "application/json" {
        return Err(format!("at {now}: {head}"));
    }
    let body = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    let (id, timestamp, signature) = (id.to_owned(), timestamp.to_owned(), signature.to_owned());
    Ok(Delivery { id, body, text, signature, timestamp })
}
