//! A server that is asked who may do what: it checks each signature by itself, notes the questions, and answers as it is told to.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::hooks::{KEY, check, read};
use super::node::{Node, program};

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    /// With this status and body.
    Status(u16, String),
    /// To go to the path `/elsewhere`, where all is allowed.
    Redirect,
    /// What is no HTTP.
    Garbage,
    /// Half of an answer that allows, and the connection's end.
    Half,
    /// An answer that allows, and is longer than anybody reads.
    Huge,
    /// Nothing, for as long as somebody waits.
    Nothing,
    /// Nothing: it closes the connection.
    Close,
}

impl Says {
    pub fn allowed() -> Says {
        Says::Status(204, String::new())
    }

    pub fn json(body: Value) -> Says {
        Says::Status(200, body.to_string())
    }

    pub fn refused(detail: &str) -> Says {
        Says::Status(403, serde_json::json!({"detail": detail}).to_string())
    }
}

type Answers = Box<dyn Fn(&Value) -> Says + Send>;

struct Seen {
    answers: Answers,
    asked: Vec<Value>,
    wrong: Vec<String>,
    /// While it is, nobody is answered.
    is_held: bool,
}

/// See the [module](self).
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Server {
    /// One that allows all.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        let seen =
            Seen { answers: Box::new(|_| Says::allowed()), asked: Vec::new(), wrong: Vec::new(), is_held: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let noted = Arc::clone(&seen);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&noted);
                std::thread::spawn(move || serve(socket, &seen));
            }
        });
        Server { address, seen }
    }

    /// From now on it answers so.
    pub fn answer(&self, answers: impl Fn(&Value) -> Says + Send + 'static) {
        self.lock().answers = Box::new(answers);
    }

    /// From now on it answers all questions with this.
    pub fn say(&self, says: Says) {
        self.answer(move |_| says.clone());
    }

    /// Holds its answers back until it is let go on.
    pub fn hold(&self) {
        self.lock().is_held = true;
    }

    pub fn go_on(&self) {
        self.lock().is_held = false;
        self.seen.1.notify_all();
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Value> {
        let seen = self.lock();
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        seen.asked.clone()
    }

    /// A node that asks it, with more flags.
    pub fn node(&self, folder: &Path, flags: &[&str]) -> Node {
        let url = format!("http://{}/ask?key=hidden", self.address);
        Node::launch(program(), folder, &[&["--cores", "2", "--authorize", &url], &secret(folder)[..], flags].concat())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().expect("nobody fails with it")
    }
}

/// The flag of the secret, which is written into the folder.
pub fn secret(folder: &Path) -> [&'static str; 2] {
    let file = folder.join("authorize.secret");
    std::fs::write(&file, format!("whsec_{}\n", STANDARD.encode(KEY))).expect("the folder is ours");
    ["--authorize-secret-file", String::leak(file.to_str().expect("a path of ours").to_owned())]
}

fn serve(mut socket: TcpStream, seen: &(Mutex<Seen>, Condvar)) {
    let mut bytes = Vec::new();
    while let Some((head, body)) = read(&mut socket, &mut bytes) {
        let checked = check(&head, body);
        let says = {
            let mut seen_now = seen.0.lock().expect("nobody fails with it");
            match checked {
                Ok(delivery) if head.starts_with("POST /ask?key=hidden HTTP/1.1\r\n") => {
                    seen_now.asked.push(delivery.body.clone());
                    let held = seen.1.wait_while(seen_now, |seen| seen.is_held).expect("nobody fails with it");
                    (held.answers)(&delivery.body)
                }
                wrong => return seen_now.wrong.push(format!("{wrong:?} {head}")),
            }
        };
        let answer = match &says {
            Says::Status(204, _) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Says::Status(status, body) => {
                format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Says::Redirect => "HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Says::Garbage => "who is there?\r\n\r\n".to_owned(),
            Says::Half => "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"topics\":[".to_owned(),
            Says::Huge => {
                let body = format!("{{\"more\":\"{}\"}}", "x".repeat(1 << 20));
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Says::Close => return,
            Says::Nothing => {
                // Until whoever waits has had enough.
                let _ = socket.read(&mut [0; 64]);
                return;
            }
        };
        if socket.write_all(answer.as_bytes()).is_err() || matches!(says, Says::Garbage | Says::Half) {
            return;
        }
    }
}
