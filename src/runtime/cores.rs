//! One pinned executor a core.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::limits::SHARDS_MAX;

/// Memory that an executor registers with the kernel for direct I/O, which Fanfare does not use: the least it takes.
/// The default of 10 MiB an executor would exceed the usual 8 MiB of lockable memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Submission queue entries: a shard has one readiness poll and a few timers in flight.
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

/// Starts an executor for shard `shard`, pinned to `core`, and runs there the future that `make` gives.
pub fn spawn<F, T>(
    shard: usize,
    core: usize,
    make: impl FnOnce() -> F + Send + 'static,
) -> io::Result<ExecutorJoinHandle<T>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    // Without it glommio panics.
    if !Path::new(ONLINE).exists() {
        return Err(io::Error::other(format!("cannot see the processors: no {ONLINE}; mount /sys")));
    }
    LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("shard-{shard}"))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(make)
        .map_err(|error| io::Error::other(format!("cannot start the executor of core {core}: {error}")))
}
