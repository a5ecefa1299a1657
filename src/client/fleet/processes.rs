//! The client processes, as the process that started them sees them. One process may have only so many open files, so
//! a load of many connections takes several.
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use serde::Serialize;

use super::measured::{Measured, Status};
use super::sys::{self, Forked};
use super::transport::Target;
use super::worker::{self, Clients, Command, Part, Reply};

/// Descriptors that a process needs beside its connections.
const FILES_RESERVED: u64 = 64;
/// How long a process may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug)]
struct Process {
    id: u32,
    control: UnixStream,
    answers: Receiver<Measured>,
    /// The last that it told.
    status: Arc<Mutex<Status>>,
}

/// How all clients are doing, for whoever wants to look.
#[derive(Debug, Clone)]
pub struct Statuses(Vec<Arc<Mutex<Status>>>);

impl Statuses {
    /// As of about 50 ms ago.
    pub fn now(&self) -> Status {
        let mut all = Status::default();
        self.0.iter().for_each(|status| all += *status.lock().unwrap_or_else(PoisonError::into_inner));
        all
    }
}

/// All client processes.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
}

/// Cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Processes for so many connections, which a person calls `what`: as many as are asked for, or as the limit on open files
/// does, which is raised as far as it goes.
///
/// # Errors
/// What is wrong with the number that is asked for.
pub fn processes_for(connections: u32, what: &str, asked: Option<u32>) -> Result<u32, String> {
    let open_files = sys::raise_open_files();
    let least = |connections: u32| {
        let each = open_files.saturating_sub(FILES_RESERVED).max(1);
        u64::from(connections).div_ceil(each).clamp(1, 1024) as u32
    };
    let processes = asked.unwrap_or_else(|| least(connections));
    if least(connections.div_ceil(processes)) > 1 {
        return Err(format!(
            "{connections} {what} do not fit into {processes} processes of {open_files} open files each; leave --processes out"
        ));
    }
    Ok(processes)
}

impl Fleet {
    /// Forks the processes, with `threads` over all of them, at least one each; must come before any thread is started.
    /// `command` is what they call themselves in messages.
    ///
    /// # Errors
    /// When the kernel refuses a process or a descriptor.
    pub fn start<C: Clients>(
        command: &str,
        plan: &C::Plan,
        mut target: Target,
        processes: u32,
        threads: u32,
    ) -> io::Result<Self> {
        target.source_base = std::process::id() % 1024 * 8192;
        let each = threads.div_ceil(processes);
        let mut ends = Vec::new();
        for process in 0..processes {
            let (mine, theirs) = UnixStream::pair()?;
            match sys::fork()? {
                Forked::Child => {
                    drop(mine);
                    drop(ends);
                    let part = |thread| Part { index: process * each + thread, of: processes * each };
                    let parts: Vec<Part> = (0..each).map(part).collect();
                    let status = match worker::run::<C>(plan, &target, &parts, theirs) {
                        Ok(()) => 0,
                        // The parent went away, which it says itself.
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
                        Err(error) => {
                            eprintln!("fanfare {command}: a client process ends: {error}");
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
            let (sender, answers) = unbounded();
            let status = Arc::new(Mutex::default());
            let told = Arc::clone(&status);
            let reader = BufReader::new(control.try_clone()?);
            std::thread::Builder::new().name("fleet-replies".to_owned()).spawn(move || {
                for reply in reader.lines().map_while(|line| serde_json::from_str(&line.ok()?).ok()) {
                    match reply {
                        Reply::Status(status) => *told.lock().unwrap_or_else(PoisonError::into_inner) = status,
                        // Whoever waited for it may be gone.
                        Reply::Measured(measured) => drop(sender.send(*measured)),
                    }
                }
            })?;
            fleet.processes.push(Process { id, control, answers, status });
        }
        Ok(fleet)
    }

    /// Processes in the fleet.
    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Has all clients obey, and does not wait for them.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn tell(&mut self, order: impl Serialize) -> io::Result<()> {
        self.command(&Command::Tell(order))
    }

    /// Has all clients obey, and returns what was measured since the last time.
    ///
    /// # Errors
    /// When a process is gone or does not answer.
    pub fn ask(&mut self, order: impl Serialize) -> io::Result<Measured> {
        self.command(&Command::Ask(order))?;
        let mut all = Measured::default();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for process in &mut self.processes {
            all += process.answers.recv_deadline(deadline).map_err(|_| process.gone())?;
        }
        Ok(all)
    }

    /// How all are doing, as of about 50 ms ago, and not before the last answer.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn status(&self) -> io::Result<Status> {
        match self
            .processes
            .iter()
            .find(|process| matches!(process.answers.try_recv(), Err(TryRecvError::Disconnected)))
        {
            Some(process) => Err(process.gone()),
            None => Ok(self.statuses().now()),
        }
    }

    /// The same for other threads, to whom it is not told that a process is gone.
    pub fn statuses(&self) -> Statuses {
        Statuses(self.processes.iter().map(|process| Arc::clone(&process.status)).collect())
    }

    fn command<O: Serialize>(&mut self, command: &Command<O>) -> io::Result<()> {
        let mut line = serde_json::to_string(command).map_err(io::Error::other)?;
        line.push('\n');
        self.processes.iter_mut().try_for_each(|process| process.control.write_all(line.as_bytes()))
    }
}

impl Process {
    fn gone(&self) -> io::Error {
        io::Error::other(format!("client process {} ended or does not answer", self.id))
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
