//! The client processes, each with a part of the audience. One process may have only so many open files, so a large crowd
//! takes several.
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::audience::{Audience, Latencies, Plan, Status};
use super::viewer::Acknowledged;
use crate::client::bench::sys::{self, Forked};
use crate::client::bench::worker::{pack, unpack};

/// How often a process tells how it is doing.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// How often what is missing is counted, once the script is over.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
/// How long a process may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a control line at most: a report is some 100 KB, a day's comments 20 MB.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a client process is told.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    /// The script is over; each stream must have seen these.
    Finish(Vec<Acknowledged>),
    /// Report and end.
    End,
}

/// What a client process tells.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Status { status: Status, settled: bool },
    Report(Box<Report>),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    likes: String,
    comments: String,
    messages: String,
    errors: BTreeMap<String, u64>,
}

/// What all of them found.
#[derive(Debug, Default)]
pub struct Total {
    pub latencies: Latencies,
    /// What went wrong with streams, and how often.
    pub errors: BTreeMap<String, u64>,
}

/// Lines of JSON over a socket that never blocks.
#[derive(Debug)]
struct Lines {
    socket: UnixStream,
    input: Vec<u8>,
}

impl Lines {
    fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, input: Vec::new() })
    }

    /// The next message, if one is there.
    fn read<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let message = serde_json::from_slice(&self.input[..end]).map_err(io::Error::other)?;
                self.input.drain(..=end);
                return Ok(Some(message));
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("a control line is too long"));
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::BrokenPipe.into()),
                Ok(read) => self.input.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut left = line.as_slice();
        while !left.is_empty() {
            match self.socket.write(left) {
                Ok(written) => left = &left[written..],
                // The other side reads every few milliseconds.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// All client processes.
#[derive(Debug)]
pub struct Stands {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    id: u32,
    lines: Lines,
    status: Status,
    settled: bool,
    heard: Instant,
    report: Option<Report>,
}

impl Stands {
    /// Forks the processes, which begin at once; must come before any thread is started.
    ///
    /// # Errors
    /// When the kernel refuses a process or a descriptor.
    pub fn start(plan: &Plan, processes: u32) -> io::Result<Self> {
        let mut all: Vec<Process> = Vec::new();
        let mut first = 0;
        for index in 0..processes {
            let count = plan.members / processes + u32::from(index < plan.members % processes);
            let (mine, theirs) = UnixStream::pair()?;
            match sys::fork()? {
                Forked::Child => {
                    drop(mine);
                    drop(all);
                    let status = match watch(plan, first, count, theirs) {
                        Ok(()) => 0,
                        // The parent went away, which it says itself.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
                        Err(error) => {
                            eprintln!("fanfare crowd: a client process ends: {error}");
                            1
                        }
                    };
                    sys::exit_child(status);
                }
                Forked::Parent { child } => all.push(Process {
                    id: child,
                    lines: Lines::new(mine)?,
                    status: Status::default(),
                    settled: false,
                    heard: Instant::now(),
                    report: None,
                }),
            }
            first += count;
        }
        Ok(Self { processes: all })
    }

    /// How all are doing together, and whether all have counted what is missing since the script was over.
    ///
    /// # Errors
    /// When a process is gone, or says nothing.
    pub fn status(&mut self) -> io::Result<(Status, bool)> {
        let (mut all, mut settled) = (Status::default(), true);
        for process in &mut self.processes {
            process.listen()?;
            all += process.status;
            settled &= process.settled;
        }
        Ok((all, settled))
    }

    /// The script is over; each stream must have seen these.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn finish(&mut self, acknowledged: &[Acknowledged]) -> io::Result<()> {
        self.processes.iter_mut().try_for_each(|process| process.lines.write(&Command::Finish(acknowledged.to_vec())))
    }

    /// Ends all, and gives what they found.
    ///
    /// # Errors
    /// When a process is gone, or says nothing.
    pub fn end(&mut self) -> io::Result<Total> {
        let mut total = Total::default();
        for process in &mut self.processes {
            process.lines.write(&Command::End)?;
        }
        for process in &mut self.processes {
            let report = loop {
                process.listen()?;
                match process.report.take() {
                    Some(report) => break report,
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            total.latencies.likes += unpack(&report.likes);
            total.latencies.comments += unpack(&report.comments);
            total.latencies.messages += unpack(&report.messages);
            for (error, count) in report.errors {
                *total.errors.entry(error).or_default() += count;
            }
        }
        Ok(total)
    }
}

impl Process {
    fn listen(&mut self) -> io::Result<()> {
        while let Some(reply) = self.lines.read()? {
            self.heard = Instant::now();
            match reply {
                Reply::Status { status, settled } => (self.status, self.settled) = (status, settled),
                Reply::Report(report) => self.report = Some(*report),
            }
            if self.report.is_some() {
                return Ok(());
            }
        }
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(io::Error::other("a client process does not answer"));
        }
        Ok(())
    }
}

impl Drop for Stands {
    fn drop(&mut self) {
        for process in &self.processes {
            // It ends when its control socket does.
            let _ = process.lines.socket.shutdown(std::net::Shutdown::Both);
        }
        for process in &self.processes {
            sys::reap(process.id, Duration::from_secs(2));
        }
    }
}

/// Runs a client process's side until it is told to end.
fn watch(plan: &Plan, first: u32, count: u32, control: UnixStream) -> io::Result<()> {
    let mut lines = Lines::new(control)?;
    let mut audience = Audience::new(plan.clone(), first, count)?;
    let mut told = Instant::now();
    let mut settled: Option<Instant> = None;
    let mut finished = false;
    loop {
        audience.turn();
        match lines.read()? {
            Some(Command::Finish(acknowledged)) => {
                audience.finish(acknowledged);
                finished = true;
            }
            Some(Command::End) => {
                audience.settle();
                audience.close();
                lines.write(&Reply::Status { status: audience.status, settled: true })?;
                let latencies = &audience.latencies;
                return lines.write(&Reply::Report(Box::new(Report {
                    likes: pack(&latencies.likes),
                    comments: pack(&latencies.comments),
                    messages: pack(&latencies.messages),
                    errors: std::mem::take(&mut audience.errors),
                })));
            }
            None => {}
        }
        if finished && settled.is_none_or(|at| at.elapsed() >= SETTLE_EVERY) {
            audience.settle();
            settled = Some(Instant::now());
            lines.write(&Reply::Status { status: audience.status, settled: true })?;
        } else if told.elapsed() >= STATUS_EVERY {
            told = Instant::now();
            lines.write(&Reply::Status { status: audience.status, settled: finished })?;
        }
    }
}
