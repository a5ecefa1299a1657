//! What a ring saves, one kind of system call after the other: `cargo bench --bench ring [SOCKETS] [PASSES]`.
//!
//! Each pass does the same work in each way, by turns, in one process over loopback; printed are medians of the CPU time that
//! the working thread took for one of it, and how often each pass was better than by plain calls. The clients have a thread of
//! their own, whose time does not count.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

/// What a like costs on the wire, and a request for a stream.
const EVENT: [u8; 200] = [b'x'; 200];
const REQUEST: [u8; 160] = [b'r'; 160];
/// Provided buffers, and the bytes of each.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: usize = 2048;
const GROUP: u16 = 1;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut number = |or| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (sockets, passes) = (number(4_000), number(15));
    println!("{sockets} sockets, {passes} passes by turns: CPU of the working thread, µs each (medians)");
    sends(sockets, passes);
    accepts(sockets, passes);
    requests(sockets.min(1_000), passes);
    waits(20_000, passes);
}

/// CPU time of the calling thread, in seconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One kind of work, and the ways to do it, the plain one first.
fn compare(what: &str, passes: usize, count: usize, ways: &mut [(&str, &mut dyn FnMut())]) {
    let mut times = vec![Vec::new(); ways.len()];
    for pass in 0..=passes {
        for (way, times) in ways.iter_mut().zip(&mut times) {
            let before = cpu();
            (way.1)();
            // The first pass is for caches.
            if pass > 0 {
                times.push((cpu() - before) * 1e6 / count as f64);
            }
        }
    }
    println!("{what}");
    let median = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    for ((name, _), own) in ways.iter().zip(&times) {
        let better = own.iter().zip(&times[0]).filter(|(own, plain)| own < plain).count();
        println!(
            "  {name:<44} {:>7.3}  {:>5.2} ×  better in {better} of {passes}",
            median(own),
            median(own) / median(&times[0])
        );
    }
}

fn ring(depth: u32) -> IoUring {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(8 * depth)
        .build(depth)
        .expect("this kernel has io_uring")
}

/// Hands over what is queued, and waits until so many have completed.
fn enter(ring: &mut IoUring, wanted: usize) {
    while let Err(error) = ring.submit_and_wait(wanted) {
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
    }
}

/// Queues an operation, handing over those before it when there is no room.
///
/// # Safety
/// What the operation points to lives until it completes.
unsafe fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: the caller's promise.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit().expect("the kernel takes what is queued");
    }
}

fn pairs(count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let pair = |_| {
        let client = TcpStream::connect(address).expect("it listens");
        let (server, _) = listener.accept().expect("a client connected");
        for socket in [&client, &server] {
            socket.set_nonblocking(true).expect("a socket can be");
            socket.set_nodelay(true).expect("a socket can be");
        }
        (server, client)
    };
    (0..count).map(pair).unzip()
}

/// An epoll set that tells of these, edge-triggered, by their places.
fn watched(sockets: &[TcpStream]) -> OwnedFd {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    for (place, socket) in sockets.iter().enumerate() {
        watch(&set, socket, place as u64);
    }
    set
}

fn watch(set: &OwnedFd, socket: &impl std::os::fd::AsFd, place: u64) {
    epoll::add(set, socket, epoll::EventData::new_u64(place), epoll::EventFlags::IN | epoll::EventFlags::ET)
        .expect("a socket can be watched");
}

/// Waits for what is ready in a set.
fn ready(set: &OwnedFd) -> Vec<usize> {
    let mut events = [const { std::mem::MaybeUninit::uninit() }; 512];
    let events = match epoll::wait(set, &mut events, None) {
        Ok((events, _)) => events,
        // What a ring completed meanwhile is a signal, too.
        Err(Errno::INTR) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    events.iter().map(|event| event.data.u64() as usize).collect()
}

/// One event to each of many connections that wait for it.
fn sends(count: usize, passes: usize) {
    let (servers, clients) = pairs(count);
    std::thread::spawn(move || {
        let (set, mut buffer) = (watched(&clients), vec![0; 1 << 16]);
        loop {
            for place in ready(&set) {
                while recv(&clients[place], &mut buffer[..], RecvFlags::empty()).is_ok_and(|(read, _)| read > 0) {}
            }
        }
    });
    // Those who wait are to have read before the next round.
    let settle = || std::thread::sleep(Duration::from_millis(60));
    let files: Vec<RawFd> = servers.iter().map(|server| server.as_raw_fd()).collect();
    let mut rings = [32, 64, 256].map(|batch| (batch, ring(256)));
    let mut fixed = ring(256);
    fixed.submitter().register_files(&files).expect("files can be registered");
    let batches = |ring: &mut IoUring, batch: usize, is_fixed: bool| {
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() as i32;
        for first in (0..count).step_by(batch) {
            let last = count.min(first + batch);
            for (place, file) in files[first..last].iter().enumerate() {
                let entry = match is_fixed {
                    true => opcode::Send::new(types::Fixed((first + place) as u32), EVENT.as_ptr(), EVENT.len() as u32),
                    false => opcode::Send::new(types::Fd(*file), EVENT.as_ptr(), EVENT.len() as u32),
                };
                // SAFETY: the bytes are static.
                unsafe { push(ring, &entry.flags(flags).build()) };
            }
            enter(ring, last - first);
            assert!(ring.completion().all(|done| done.result() == EVENT.len() as i32), "a buffer was full");
        }
        settle();
    };
    let [by_32, by_64, by_256] = &mut rings;
    compare(
        "one event to each connection",
        passes,
        count,
        &mut [
            ("send(2)", &mut || {
                for server in &servers {
                    let sent = send(server, &EVENT, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                    assert_eq!(sent, Ok(EVENT.len()), "a buffer was full");
                }
                settle();
            }),
            ("a ring, 32 a call", &mut || batches(&mut by_32.1, by_32.0, false)),
            ("a ring, 64 a call", &mut || batches(&mut by_64.1, by_64.0, false)),
            ("a ring, 256 a call", &mut || batches(&mut by_256.1, by_256.0, false)),
            ("a ring, 64 a call, registered sockets", &mut || batches(&mut fixed, 64, true)),
        ],
    );
}

/// Connections that come in together, each of which is then watched.
fn accepts(count: usize, passes: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // SAFETY: the descriptor is a listening socket's.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4_096) }, 0);
    listener.set_nonblocking(true).expect("a socket can be");
    let address = listener.local_addr().expect("it listens");
    let burst = count.min(1_000);
    let (ask, asked) = channel::<()>();
    let (tell, told) = channel();
    std::thread::spawn(move || connect(address, burst, &asked, &tell));
    let come = || {
        ask.send(()).expect("the clients live");
        told.recv().expect("the clients live");
    };
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    let end = |sockets: Vec<OwnedFd>| {
        for socket in &sockets {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    };
    let mut ring = ring(256);
    compare(
        "connections that come in together, accepted and watched (and ended)",
        passes,
        burst,
        &mut [
            ("accept4(2)", &mut || {
                come();
                let mut sockets = Vec::with_capacity(burst);
                loop {
                    match accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                        Ok(socket) => {
                            watch(&set, &socket, 0);
                            sockets.push(socket);
                        }
                        Err(Errno::AGAIN) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(sockets.len(), burst);
                end(sockets);
            }),
            ("a ring, multishot", &mut || {
                come();
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).flags(flags).build().user_data(1);
                // SAFETY: it points to nothing.
                unsafe { push(&mut ring, &entry) };
                let mut sockets = Vec::with_capacity(burst);
                while sockets.len() < burst {
                    enter(&mut ring, 1);
                    let mut ended = false;
                    for done in ring.completion() {
                        // SAFETY: the kernel just gave this descriptor, and nobody else has it.
                        let socket = unsafe { OwnedFd::from_raw_fd(done.result()) };
                        watch(&set, &socket, 0);
                        sockets.push(socket);
                        ended |= !cqueue::more(done.flags());
                    }
                    if ended {
                        // SAFETY: as above.
                        unsafe { push(&mut ring, &entry) };
                    }
                }
                // What still waits for connections is called back, so that the next way has them for itself.
                let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
                // SAFETY: it points to nothing.
                unsafe { push(&mut ring, &cancel.user_data(2)) };
                enter(&mut ring, 2);
                ring.completion().for_each(drop);
                end(sockets);
            }),
        ],
    );
}

fn connect(address: SocketAddr, count: usize, asked: &Receiver<()>, tell: &Sender<()>) {
    let mut held: Vec<TcpStream> = Vec::new();
    while asked.recv().is_ok() {
        held.clear();
        held.extend((0..count).map(|_| TcpStream::connect(address).expect("it listens")));
        tell.send(()).expect("somebody waits for it");
    }
}

/// Connections on each of which a client asks, once told to, having read what it was answered before.
struct Asking {
    servers: Vec<TcpStream>,
    ask: Sender<()>,
    told: Receiver<()>,
}

impl Asking {
    fn new(count: usize) -> Asking {
        let (servers, clients) = pairs(count);
        let ((ask, asked), (tell, told)) = (channel::<()>(), channel());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while asked.recv().is_ok() {
                for client in &clients {
                    while recv(client, &mut buffer[..], RecvFlags::empty()).is_ok_and(|(read, _)| read > 0) {}
                    (&mut &*client).write_all(&REQUEST).expect("there is room");
                }
                tell.send(()).expect("somebody waits for it");
            }
        });
        Asking { servers, ask, told }
    }

    fn come(&self) {
        self.ask.send(()).expect("the clients live");
        self.told.recv().expect("the clients live");
    }
}

/// A small request on each of many connections, and its answer.
fn requests(count: usize, passes: usize) {
    let [plain, mixed, whole] = [(); 3].map(|()| Asking::new(count));
    let (plain_set, mixed_set) = (watched(&plain.servers), watched(&mixed.servers));
    let (mut plain_buffer, mut mixed_buffer) = (vec![0; 1 << 14], vec![0; 1 << 14]);
    let (mut answers, mut ring) = (ring(256), ring(256));
    let mut buffers = Buffers::new();
    let memory = buffers.entries as u64;
    // SAFETY: the entries live as long as the process.
    unsafe { ring.submitter().register_buf_ring_with_flags(memory, BUFFERS, GROUP, 0) }
        .expect("buffers can be provided");
    let receive = |place: usize| {
        let socket = types::Fd(whole.servers[place].as_raw_fd());
        opcode::RecvMulti::new(socket, GROUP).build().user_data(place as u64)
    };
    for place in 0..count {
        // SAFETY: it points to nothing; the buffers live as long as the process.
        unsafe { push(&mut ring, &receive(place)) };
    }
    ring.submit().expect("the kernel takes it");
    let has_come = |server: &TcpStream, buffer: &mut [u8]| {
        recv(server, buffer, RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
    };
    compare(
        "a small request, and its answer",
        passes,
        count,
        &mut [
            ("epoll, recv(2) and send(2)", &mut || {
                plain.come();
                let mut answered = 0;
                while answered < count {
                    for place in ready(&plain_set) {
                        let server = &plain.servers[place];
                        if has_come(server, &mut plain_buffer) {
                            send(server, &EVENT, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).expect("there is room");
                            answered += 1;
                        }
                    }
                }
            }),
            ("epoll and recv(2), answers by a ring", &mut || {
                mixed.come();
                let mut answered = 0;
                while answered < count {
                    for place in ready(&mixed_set) {
                        let server = &mixed.servers[place];
                        if has_come(server, &mut mixed_buffer) {
                            // SAFETY: the bytes are static.
                            unsafe { push(&mut answers, &answer(server)) };
                            answered += 1;
                        }
                    }
                    answers.submit().expect("the kernel takes it");
                }
            }),
            ("a ring, multishot, provided buffers", &mut || {
                whole.come();
                let mut answered = 0;
                while answered < count {
                    enter(&mut ring, 1);
                    let done: Vec<_> =
                        ring.completion().map(|done| (done.user_data(), done.result(), done.flags())).collect();
                    for (place, result, flags) in done {
                        if result > 0 {
                            buffers.give(cqueue::buffer_select(flags).expect("it is in a buffer"));
                            // SAFETY: the bytes are static.
                            unsafe { push(&mut ring, &answer(&whole.servers[place as usize])) };
                            answered += 1;
                        }
                        if !cqueue::more(flags) {
                            // SAFETY: as above.
                            unsafe { push(&mut ring, &receive(place as usize)) };
                        }
                    }
                }
                ring.submit().expect("the kernel takes it");
            }),
        ],
    );
}

fn answer(server: &TcpStream) -> squeue::Entry {
    opcode::Send::new(types::Fd(server.as_raw_fd()), EVENT.as_ptr(), EVENT.len() as u32)
        .flags((SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() as i32)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(u64::MAX)
}

/// Buffers that the kernel takes for what it receives.
struct Buffers {
    entries: *mut types::BufRingEntry,
    memory: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new() -> Buffers {
        let bytes = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
        // SAFETY: new memory, of whose alignment a page is enough.
        let entries = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
            libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0)
        };
        assert_ne!(entries, libc::MAP_FAILED);
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut buffers = Buffers { entries: entries.cast(), memory, tail: 0 };
        (0..BUFFERS).for_each(|number| buffers.give(number));
        buffers
    }

    fn give(&mut self, number: u16) {
        // SAFETY: the place is within the entries, and the kernel reads it only once the tail says so.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.memory.as_ptr().add(usize::from(number) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
            (*types::BufRingEntry::tail(self.entries).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

/// Being woken by another thread, which waits for each answer.
fn waits(count: usize, passes: usize) {
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("a descriptor is free");
    let back = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is free");
    let (ask, asked) = channel::<()>();
    let (theirs, ours) = (wake.try_clone().expect("it can be"), back.try_clone().expect("it can be"));
    std::thread::spawn(move || {
        while asked.recv().is_ok() {
            for _ in 0..count {
                rustix::io::write(&theirs, &1u64.to_ne_bytes()).expect("it counts");
                rustix::io::read(&ours, &mut [0; 8]).expect("it is told");
            }
        }
    });
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    watch(&set, &wake, 0);
    let (mut by_set, mut alone) = (ring(64), ring(64));
    let answer = || {
        rustix::io::read(&wake, &mut [0; 8]).expect("it was told");
        rustix::io::write(&back, &1u64.to_ne_bytes()).expect("it counts");
    };
    compare(
        "being woken (with the answer)",
        passes,
        count,
        &mut [
            ("epoll_wait(2)", &mut || {
                ask.send(()).expect("the other lives");
                for _ in 0..count {
                    ready(&set);
                    answer();
                }
            }),
            ("a ring that waits for the epoll set", &mut || {
                ask.send(()).expect("the other lives");
                for _ in 0..count {
                    let entry = opcode::PollAdd::new(types::Fd(set.as_raw_fd()), libc::POLLIN as u32).build();
                    // SAFETY: it points to nothing.
                    unsafe { push(&mut by_set, &entry) };
                    enter(&mut by_set, 1);
                    by_set.completion().for_each(drop);
                    ready(&set);
                    answer();
                }
            }),
            ("a ring alone, multishot", &mut || {
                ask.send(()).expect("the other lives");
                let entry = opcode::PollAdd::new(types::Fd(wake.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
                // SAFETY: it points to nothing.
                unsafe { push(&mut alone, &entry.user_data(1)) };
                let mut answered = 0;
                while answered < count {
                    enter(&mut alone, 1);
                    let told = alone.completion().count();
                    for _ in 0..told {
                        if rustix::io::read(&wake, &mut [0; 8]).is_ok() {
                            rustix::io::write(&back, &1u64.to_ne_bytes()).expect("it counts");
                            answered += 1;
                        }
                    }
                }
                let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
                // SAFETY: it points to nothing.
                unsafe { push(&mut alone, &cancel) };
                enter(&mut alone, 2);
                alone.completion().for_each(drop);
            }),
        ],
    );
}
