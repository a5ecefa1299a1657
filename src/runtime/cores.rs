//! One pinned executor a core: glommio's on io_uring, or a plain thread that waits by epoll.

use std::any::Any;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Once, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::block_on;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

use crate::limits::SHARDS_MAX;

/// What an executor that does not start costs.
pub const COST: &str = "no shard starts, so no role runs";
/// Same, where shards may wait by epoll.
pub const COST_ON_EPOLL: &str = "shards wait by epoll and not by io_uring, and each send is a system call of its own";
/// What an executor needs of its machine.
pub const REMEDY: &str = "/sys must be mounted, with enough locked memory (ulimit -l), threads (ulimit -u) and open files, io_uring for this user (kernel.io_uring_disabled = 0, or 1 with its group as kernel.io_uring_group, see tuning/apply), and a container's seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register";

/// Memory that an executor registers with the kernel for direct I/O, which Fanfare does not use: the least it takes.
/// The default of 10 MiB an executor would exceed the usual 8 MiB of lockable memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Submission queue entries of an executor: it has a few timers in flight, and a shard waits by a ring of its own.
const RING_DEPTH: usize = 64;

/// Where glommio looks up processors.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The processors this process may use, lowest first: its affinity mask, cut to its cgroup's share of time.
pub fn available() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    // Rust's figure takes the cgroup's CPU quota into account.
    let quota = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if cores.is_empty() {
        cores = (0..quota).collect();
    }
    cores.truncate(quota.clamp(1, SHARDS_MAX));
    cores
}

/// Operations of io_uring that the executor insists on, by their numbers in the kernel's interface.
const OPERATIONS: [usize; 23] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21, 22, 23, 26, 27];
/// The sizes of `struct io_uring_params`, and of `struct io_uring_probe` with and without its 256 operations.
const PARAMS_BYTES: usize = 120;
const PROBE_HEAD_BYTES: usize = 16;
const PROBE_OPERATION_BYTES: usize = 8;
const PROBE_OPERATIONS: usize = 256;
const IORING_REGISTER_PROBE: libc::c_uint = 8;
/// A bit of an operation's flags.
const IO_URING_OP_SUPPORTED: u8 = 1;

/// Whether this machine lets a process use io_uring, by asking the kernel and not the executor, which panics where it does
/// not.
///
/// # Errors
/// Says which call is refused, or what is missing.
pub fn probe() -> io::Result<()> {
    // Without it glommio panics.
    if !Path::new(ONLINE).exists() {
        return Err(io::Error::other(format!("cannot see the processors: no {ONLINE}; mount /sys")));
    }
    let check = |call: &str, result: libc::c_long| match result {
        0.. => Ok(result),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(error.kind(), format!("{call}: {error}")))
        }
    };
    let mut params = [0u64; PARAMS_BYTES / 8];
    // SAFETY: the kernel reads and writes one `struct io_uring_params`, of whose size and alignment this is.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4 as libc::c_uint, params.as_mut_ptr()) };
    let ring = check("io_uring_setup", ring)?;
    // SAFETY: the call just gave this descriptor, and nobody else has it.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as libc::c_int) };
    let mut probe = [0u64; (PROBE_HEAD_BYTES + PROBE_OPERATION_BYTES * PROBE_OPERATIONS) / 8];
    // SAFETY: the kernel writes a head and at most as many operations as it is told that there is room for.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            IORING_REGISTER_PROBE,
            probe.as_mut_ptr(),
            PROBE_OPERATIONS as libc::c_uint,
        )
    };
    check("io_uring_register", registered)?;
    let bytes: Vec<u8> = probe.iter().flat_map(|word| word.to_ne_bytes()).collect();
    // Of each operation: its number, a byte of nothing, and two of flags.
    let flags = |number: usize| bytes[PROBE_HEAD_BYTES + PROBE_OPERATION_BYTES * number + 2];
    if let Some(missing) = OPERATIONS.iter().find(|number| flags(**number) & IO_URING_OP_SUPPORTED == 0) {
        return Err(io::Error::other(format!("the kernel's io_uring lacks operation {missing}")));
    }
    // SAFETY: nothing is submitted or waited for, and there is no signal mask.
    let entered = unsafe {
        let none = std::ptr::null::<libc::sigset_t>();
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            0 as libc::c_uint,
            0 as libc::c_uint,
            0 as libc::c_uint,
            none,
            0usize,
        )
    };
    check("io_uring_enter", entered).map(drop)
}

thread_local! {
    /// This thread's executor has not yet been through its rings: what goes wrong is the machine's fault, and is an error.
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics of executors that start from being printed, and from what else is done on a panic.
fn hush_starts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !STARTING.get() {
                usual(panic);
            }
        }));
    });
}

/// By what shards wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// glommio's executor, on io_uring.
    Uring,
    /// A thread that waits for its epoll set itself.
    Epoll,
}

/// Starts an executor on io_uring on each of these cores, all at once, and ends them.
///
/// # Errors
/// The first that does not start.
pub fn try_rings(cores: &[usize]) -> io::Result<()> {
    let (hold, held) = crossbeam_channel::bounded::<Infallible>(0);
    let start = |&core: &usize| {
        let held = held.clone();
        let wait = async move {
            let _ = held.recv();
        };
        spawn(Engine::Uring, 0, core, move || Ok(wait))
    };
    let executors = cores.iter().map(start).collect::<io::Result<Vec<_>>>()?;
    drop(hold);
    let broke = |_| io::Error::other("an executor broke");
    executors.into_iter().try_for_each(|executor| executor.handle.join().map_err(broke))
}

/// From now on the calling thread runs on this core only.
fn stay(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// An executor that runs.
#[derive(Debug)]
pub struct Executor<T> {
    /// Its thread, by which to wait for its end.
    pub handle: JoinHandle<T>,
    /// The same as the kernel knows it.
    pub thread: Pid,
}

/// Starts an executor for shard `shard`, pinned to `core`, and runs there the future that `make` gives. Returns once an
/// executor with rings has waited for something, so that these are known to work, and `make` has made the future. On epoll the
/// future waits by blocking its thread.
///
/// What is to be done on a panic has to be set up before the first call.
///
/// # Errors
/// What the machine refuses, whether it is reported or makes the executor panic; or the error of `make`.
pub fn spawn<F, T>(
    engine: Engine,
    shard: usize,
    core: usize,
    make: impl FnOnce() -> io::Result<F> + Send + 'static,
) -> io::Result<Executor<T>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    if engine == Engine::Uring {
        probe()?;
        hush_starts();
    }
    let (tell, told) = mpsc::sync_channel(1);
    let problem = move |what: String| io::Error::other(format!("the executor of core {core}: {what}"));
    let run = move || {
        STARTING.set(engine == Engine::Uring);
        let started = tell.clone();
        let running = catch_unwind(AssertUnwindSafe(|| {
            if engine == Engine::Epoll {
                stay(core).map_err(|error| problem(error.to_string()))?;
                let future = make()?;
                let _ = started.send(Ok(gettid()));
                return Ok(block_on(future));
            }
            let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
                .name(&format!("shard-{shard}"))
                .io_memory(IO_MEMORY_BYTES)
                .ring_depth(RING_DEPTH)
                .make()
                .map_err(|error| problem(error.to_string()))?;
            executor.run(async move {
                Timer::new(Duration::from_micros(1)).await;
                STARTING.set(false);
                let future = make()?;
                let _ = started.send(Ok(gettid()));
                Ok(future.await)
            })
        }));
        match running {
            Ok(Ok(result)) => return result,
            Ok(Err(error)) => tell.send(Err(error)),
            Err(panic) if STARTING.get() => tell.send(Err(problem(said(&*panic)))),
            Err(panic) => resume_unwind(panic),
        }
        .ok();
        // Nobody has this thread's handle, and no hook sees this end.
        resume_unwind(Box::new("the executor did not start"))
    };
    let handle = std::thread::Builder::new()
        .name(format!("shard-{shard}"))
        .spawn(run)
        .map_err(|error| problem(format!("no thread: {error}")))?;
    match told.recv() {
        Ok(Ok(thread)) => Ok(Executor { handle, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(problem("it ended".to_owned())),
    }
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
