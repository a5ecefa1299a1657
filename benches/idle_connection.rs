//! What an idle connection costs, by the way it is waited for: `cargo bench --bench idle_connection [CONNECTIONS]`.
//!
//! Each way runs in a process of its own, which accepts all connections, answers each with a head, and then waits for
//! their ends. Printed: resident memory of that process a connection, and the kernel's slab memory a connection (both
//! ends and whatever waits for them).

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use fanfare::runtime::cores;
use fanfare::runtime::readiness::{Interest, Readiness};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const WAYS: [(&str, &str); 4] = [
    ("slot", "one epoll set, waited for through io_uring; a slot of 56 bytes a connection"),
    ("task", "a small glommio task a connection, its stream in it, an io_uring poll pending"),
    ("handshake", "a glommio task a connection that also did the handshake, with its buffer of 1 KiB"),
    ("buffered", "the same on glommio's own buffered stream (8 KiB)"),
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next() {
        Some(way) if WAYS.iter().any(|(name, _)| *name == way) => serve(&way),
        count => measure(count.and_then(|count| count.parse().ok()).unwrap_or(8_000)),
    }
}

fn measure(connections: usize) {
    fanfare::runtime::open_files::raise();
    println!("{connections} idle connections: bytes each");
    println!("{:<10} {:>8} {:>12}", "way", "RSS", "kernel slab");
    for (way, what) in WAYS {
        let mut server = Command::new(std::env::current_exe().expect("this program has a path"))
            .arg(way)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut lines = BufReader::new(server.stdout.take().expect("it is piped")).lines();
        let address: SocketAddr =
            lines.next().expect("it says where it listens").expect("readable").parse().expect("an address");
        let rss = || memory(&format!("/proc/{}/status", server.id()), "VmRSS:");
        // Once around first, so that what is needed whatever the number of connections is there.
        drop(open(address, 64));
        std::thread::sleep(Duration::from_millis(300));
        let before = (rss(), memory("/proc/meminfo", "Slab:"));
        let held = open(address, connections);
        let after = (rss(), memory("/proc/meminfo", "Slab:"));
        let each = |before: u64, after: u64| after.saturating_sub(before) * 1024 / connections as u64;
        println!("{way:<10} {:>8} {:>12}   {what}", each(before.0, after.0), each(before.1, after.1));
        drop(held);
        server.kill().expect("it runs");
        server.wait().expect("it is our child");
    }
}

/// A figure in KiB from a file of `name: figure kB` lines.
fn memory(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("procfs is there");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the figure is there");
    line.split_whitespace().nth(1).expect("it has a value").parse().expect("it is a number")
}

fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).expect("it accepts");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        let mut head = [0; HEAD.len()];
        stream.read_exact(&mut head).expect("it answers");
        streams.push(stream);
    }
    streams
}

fn serve(way: &str) {
    fanfare::runtime::open_files::raise();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    println!("{}", listener.local_addr().expect("it is bound"));
    let way = way.to_owned();
    let executor = cores::spawn(cores::Engine::Uring, 0, cores::available()[0], move || {
        Ok(async move { if way == "slot" { slots(listener).await } else { tasks(listener, &way).await } })
    });
    let _ = executor.expect("an executor starts").handle.join();
}

/// As Fanfare does.
async fn slots(listener: TcpListener) {
    struct Slot {
        _fields_of_fanfares: [u64; 6],
        stream: Option<TcpStream>,
    }
    listener.set_nonblocking(true).expect("it is a socket");
    let readiness = Readiness::new().expect("epoll is there");
    readiness.add(&listener, u64::MAX, Interest::ReadLevel).expect("it can be watched");
    let (mut slots, mut ready, mut buffer): (Vec<Slot>, _, _) = (Vec::new(), Vec::new(), [0; 1024]);
    loop {
        readiness.wait_blocking(&mut ready).expect("epoll works");
        for event in &ready {
            if event.token == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("it is a socket");
                    readiness.add(&stream, slots.len() as u64, Interest::Socket).expect("it can be watched");
                    slots.push(Slot { _fields_of_fanfares: [1; 6], stream: Some(stream) });
                }
            } else if let Some(stream) = &mut slots[event.token as usize].stream {
                match stream.read(&mut buffer) {
                    Ok(0) => slots[event.token as usize].stream = None,
                    Ok(_) => stream.write_all(HEAD).expect("there is room"),
                    Err(_) => {}
                }
            }
        }
    }
}

/// A glommio task a connection.
async fn tasks(listener: TcpListener, way: &str) {
    // SAFETY: the descriptor is given up by the standard listener, so that this one owns it.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let open = Rc::new(RefCell::new(0usize));
    loop {
        let mut stream = listener.accept().await.expect("accepts");
        *open.borrow_mut() += 1;
        let (open, way) = (Rc::clone(&open), way.to_owned());
        glommio::spawn_local(async move {
            match way.as_str() {
                "handshake" => {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(HEAD).await;
                    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
                }
                "buffered" => {
                    let mut stream = stream.buffered();
                    let mut byte = [0; 64];
                    let _ = stream.read(&mut byte).await;
                    let _ = stream.write_all(HEAD).await;
                    while matches!(stream.read(&mut byte).await, Ok(1..)) {}
                }
                _ => {
                    let mut buffer = Box::new([0; 1024]);
                    let _ = stream.read(&mut buffer[..]).await;
                    let _ = stream.write_all(HEAD).await;
                    drop(buffer);
                    // The handshake's future ends here; what stays is this small one.
                    glommio::spawn_local(async move {
                        while matches!(stream.read(&mut [0; 1]).await, Ok(1..)) {}
                        let _ = stream.as_raw_fd();
                    })
                    .detach();
                }
            }
            *open.borrow_mut() -= 1;
        })
        .detach();
    }
}
