//! The client processes, as the process that started them sees them. One process may have only so many open files, so
//! a load of many connections takes several.
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use hdrhistogram::Histogram;

use super::check::Tally;
use super::receiver::{Subscription, latencies};
use super::schedule::Published;
use super::sys::{self, Forked};
use super::worker::{self, Command, Reply, Status};

/// Descriptors that a process needs beside its connections.
const FILES_RESERVED: u64 = 64;
/// How long a process may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Figures of all processes together.
#[derive(Debug)]
pub struct Total {
    pub tally: Tally,
    pub timed: u64,
    pub latency: Histogram<u64>,
    pub connect: Histogram<u64>,
    pub errors: Vec<String>,
}

#[derive(Debug)]
struct Process {
    id: u32,
    control: UnixStream,
    replies: Receiver<Reply>,
    status: Status,
}

/// All client processes.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
}

/// Processes that `connections` need, given the limit on open files.
pub fn processes_for(connections: u32, open_files: u64) -> u32 {
    let each = open_files.saturating_sub(FILES_RESERVED).max(1);
    u64::from(connections).div_ceil(each).clamp(1, 1024) as u32
}

impl Fleet {
    /// Forks the processes; must come before any thread is started.
    ///
    /// # Errors
    /// When the kernel refuses a process or a descriptor.
    pub fn start(subscription: &Subscription, processes: u32, threads: u32) -> io::Result<Self> {
        let mut ends = Vec::new();
        for _ in 0..processes {
            let (mine, theirs) = UnixStream::pair()?;
            match sys::fork()? {
                Forked::Child => {
                    drop(mine);
                    drop(ends);
                    let threads = threads.div_ceil(processes) as usize;
                    let status = match worker::run(subscription, threads, theirs) {
                        Ok(()) => 0,
                        // The parent went away, which it says itself.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
                        Err(error) => {
                            eprintln!("fanfare bench: a client process ends: {error}");
                            1
                        }
                    };
                    sys::exit_child(status);
                }
                Forked::Parent { child } => ends.push((child, mine)),
            }
        }
        // Threads only now that all forks are done.
        let mut fleet = Self { processes: Vec::new() };
        for (id, control) in ends {
            let (sender, replies) = unbounded();
            let reader = BufReader::new(control.try_clone()?);
            std::thread::Builder::new().name("bench-replies".to_owned()).spawn(move || {
                for line in reader.lines().map_while(Result::ok) {
                    let Ok(reply) = serde_json::from_str(&line) else {
                        return;
                    };
                    if sender.send(reply).is_err() {
                        return;
                    }
                }
            })?;
            fleet.processes.push(Process { id, control, replies, status: Status::default() });
        }
        Ok(fleet)
    }

    /// Processes in the fleet.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Has the connections `first` to `first + count` opened, and does not wait for them.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn open(
        &mut self,
        first: u32,
        count: u32,
        window: u32,
        stalled: bool,
        published: &Published,
    ) -> io::Result<()> {
        let processes = self.processes.len() as u32;
        let mut next = first;
        for (index, process) in self.processes.iter_mut().enumerate() {
            let share = count / processes + u32::from((index as u32) < count % processes);
            let command = Command::Open {
                first: next,
                count: share,
                window: window.div_ceil(processes) as usize,
                stalled,
                published: published.clone(),
            };
            process.tell(&command)?;
            next += share;
        }
        Ok(())
    }

    /// From when events are timed, and how far apart a topic's events are.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn begin(&mut self, from_us: u64, interval_us: f64) -> io::Result<()> {
        self.tell_all(&Command::Begin { from_us, interval_us })
    }

    /// Settles what was published and returns what was measured since the last time.
    ///
    /// # Errors
    /// When a process is gone or does not answer.
    pub fn collect(&mut self, published: &Published) -> io::Result<Total> {
        self.tell_all(&Command::Collect { published: published.clone() })?;
        self.gather()
    }

    /// Closes all connections and returns what was measured since the last time, unsettled.
    ///
    /// # Errors
    /// When a process is gone or does not answer.
    pub fn close_all(&mut self) -> io::Result<Total> {
        self.tell_all(&Command::CloseAll)?;
        self.gather()
    }

    /// Has all connections cut and opened again, each with what it saw last, and does not wait for them.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn reconnect(&mut self, window: u32) -> io::Result<()> {
        let window = (window as usize).div_ceil(self.processes.len());
        self.tell_all(&Command::Reconnect { window })
    }

    /// How all are doing, as of about 50 ms ago.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn status(&mut self) -> io::Result<Status> {
        let mut all = Status::default();
        for process in &mut self.processes {
            loop {
                match process.replies.try_recv() {
                    Ok(Reply::Status(status)) => process.status = status,
                    Ok(Reply::Report(_)) => {}
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => {
                        return Err(gone(process.id));
                    }
                }
            }
            all += process.status;
        }
        Ok(all)
    }

    fn tell_all(&mut self, command: &Command) -> io::Result<()> {
        self.processes.iter_mut().try_for_each(|process| process.tell(command))
    }

    fn gather(&mut self) -> io::Result<Total> {
        let mut all =
            Total { tally: Tally::default(), timed: 0, latency: latencies(), connect: latencies(), errors: Vec::new() };
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for process in &mut self.processes {
            let report = loop {
                match process.replies.recv_deadline(deadline) {
                    Ok(Reply::Status(status)) => process.status = status,
                    Ok(Reply::Report(report)) => break report,
                    Err(_) => return Err(gone(process.id)),
                }
            };
            let (latency, connect) = report.histograms();
            all.tally += report.tally;
            all.timed += report.timed;
            all.latency += latency;
            all.connect += connect;
            all.errors.extend(report.errors);
        }
        all.errors.sort();
        all.errors.dedup();
        all.errors.truncate(8);
        Ok(all)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &self.processes {
            // It may have ended already.
            let _ = process.control.shutdown(std::net::Shutdown::Both);
        }
        for process in &self.processes {
            sys::reap(process.id, Duration::from_secs(10));
        }
    }
}

impl Process {
    fn tell(&mut self, command: &Command) -> io::Result<()> {
        let mut line = serde_json::to_string(command).map_err(io::Error::other)?;
        line.push('\n');
        self.control.write_all(line.as_bytes())
    }
}

fn gone(id: u32) -> io::Error {
    io::Error::other(format!("client process {id} ended or does not answer"))
}
