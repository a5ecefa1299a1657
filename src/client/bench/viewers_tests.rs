//! A client process's side against a server that makes every mistake there is.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use super::args::ReadyOn;
use super::schedule::Published;
use super::viewers::{Order, Subscription, Viewers};
use crate::client::fleet::measured::{Measured, Status};
use crate::client::fleet::sys::now_us;
use crate::client::fleet::transport::Target;
use crate::client::fleet::worker::{Command, Part, Reply, run};

fn frame(sequence: u64, count: u64, topic: u32) -> String {
    let now_us = now_us();
    format!(
        "data: {{\"id\":\"x\",\"topic\":\"live:{topic}\",\"type\":\"like\",\"at\":1,\"count\":{count},\"data\":{{\"seq\":{sequence},\"sent\":{now_us},\"t\":{topic}}}}}\n\n"
    )
}

/// A client process on a thread, and its control connection.
struct Client {
    control: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Client {
    fn start(listener: &TcpListener) -> Self {
        let (control, theirs) = UnixStream::pair().unwrap();
        let subscription = Subscription {
            request: (b"GET /".to_vec(), b" HTTP/1.1\r\n\r\n".to_vec()),
            topics: Arc::new(vec!["live:0".to_owned(), "live:1".to_owned()]),
            ready_on: ReadyOn::Connected,
            likes: false,
            resumes: false,
        };
        let target = Target::plain(listener.local_addr().unwrap());
        thread::spawn(move || {
            let parts = [0, 1].map(|index| Part { index, of: 2 });
            run::<Viewers>(&subscription, &target, &parts, theirs)
        });
        Self { replies: BufReader::new(control.try_clone().unwrap()), control }
    }

    fn tell(&mut self, command: &Command<Order>) {
        let line = serde_json::to_string(command).unwrap();
        writeln!(self.control, "{line}").unwrap();
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        assert!(self.replies.read_line(&mut line).unwrap() > 0, "the client ended");
        serde_json::from_str(&line).unwrap()
    }

    fn status_until(&mut self, enough: impl Fn(&Status) -> bool) -> Status {
        loop {
            if let Reply::Status(status) = self.reply()
                && enough(&status)
            {
                return status;
            }
        }
    }

    fn ask(&mut self, order: Order) -> Measured {
        self.tell(&Command::Ask(order));
        loop {
            if let Reply::Measured(measured) = self.reply() {
                return *measured;
            }
        }
    }
}

/// Takes a subscription and answers its head and the `connected` event; returns the topic it asked for.
fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = vec![0; 1024];
    let read = stream.read(&mut request).unwrap();
    let text = String::from_utf8_lossy(&request[..read]).into_owned();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nevent: connected\ndata: {}\n\n").unwrap();
    (stream, text[5..11].to_owned())
}

fn published(first: u64, second: u64) -> Published {
    Published { topics: 2, lanes: vec![first, second] }
}

#[test]
fn every_mistake_of_a_server_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::start(&listener);
    client.tell(&Command::Tell(Order::Open {
        first: 0,
        count: 2,
        window: 10,
        stalled: false,
        published: published(0, 0),
    }));
    let mut streams = [accept(&listener), accept(&listener)];
    streams.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!([&streams[0].1, &streams[1].1], ["live:0", "live:1"]);
    client.status_until(|status| status.ready == 2);
    client.tell(&Command::Tell(Order::Begin { from_us: 0, interval_us: 1_000.0 }));
    // Threads obey in order, so an answer to this says that they have begun to time.
    let report = client.ask(Order::Collect { published: published(0, 0) });
    assert_eq!(report.connect.len(), 2, "connects are timed");

    // Topic 0: 0, 1, a merged 2 to 4, 5 twice, 7 before 6, 8 lost at the end, and one of another topic.
    let sent: String = [(0, 1, 0), (1, 1, 0), (4, 3, 0), (5, 1, 0), (5, 1, 0), (7, 1, 0), (6, 1, 0), (0, 1, 1)]
        .iter()
        .map(|(sequence, count, topic)| frame(*sequence, *count, *topic))
        .collect();
    streams[0].0.write_all(sent.as_bytes()).unwrap();
    // Topic 1: all is well.
    streams[1].0.write_all((frame(0, 1, 1) + &frame(1, 1, 1)).as_bytes()).unwrap();
    client.status_until(|status| status.received == 11);
    let report = client.ask(Order::Collect { published: published(9, 2) });
    let tally = report.tally;
    assert_eq!((tally.received, tally.merged, tally.merged_frames), (11, 3, 1));
    assert_eq!((tally.lost, tally.duplicated, tally.out_of_order, tally.misrouted), (1, 1, 1, 1));
    assert_eq!((report.latency.len(), report.timed), (11, 11));

    // A connection that breaks loses what comes after.
    streams[0].0.shutdown(std::net::Shutdown::Both).unwrap();
    let status = client.status_until(|status| status.closed == 1);
    assert_eq!((status.ready, status.failed), (1, 0));
    let report = client.ask(Order::Collect { published: published(12, 2) });
    assert_eq!(report.tally.lost, 3);
    assert_eq!(report.told_errors(), ["the server ended the stream"]);

    let report = client.ask(Order::CloseAll);
    assert!(report.tally.is_clean());
    assert_eq!(streams[1].0.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
