//! Thread pools by size, kept for the next call.
//!
//! Rayon's global pool is dead in a forked child (`multiprocessing`, data loader workers) and
//! work handed to it never ends. So pools are kept together with the process that made them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rayon::ThreadPool;

use crate::error::{Error, Result};

/// More threads than this are refused.
pub const MAX_THREADS: usize = 1024;

type Pools = HashMap<(u32, usize), Arc<ThreadPool>>;
static POOLS: LazyLock<Mutex<Pools>> = LazyLock::new(Mutex::default);

/// Runs `work` in a pool of `threads` workers (`None`: one for each available core).
///
/// # Errors
/// `threads` is 0 or beyond [`MAX_THREADS`], or the system refuses the threads.
pub fn run<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    Ok(pool(check(threads)?)?.install(work))
}

/// How many threads that makes.
///
/// # Errors
/// `threads` is 0 or beyond [`MAX_THREADS`].
pub fn check(threads: Option<usize>) -> Result<usize> {
    let count = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS));
    if count == 0 || count > MAX_THREADS {
        return Err(Error::argument(
            "threads",
            format!("be 1 to {MAX_THREADS}, or None for all cores"),
            count,
            "Pass a positive number",
        ));
    }
    Ok(count)
}

fn pool(count: usize) -> Result<Arc<ThreadPool>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    // A pool inherited through fork has no threads to join: dropping it would wait for ever.
    for (_, stale) in pools.extract_if(|key, _| key.0 != process) {
        std::mem::forget(stale);
    }
    if let Some(pool) = pools.get(&(process, count)) {
        return Ok(Arc::clone(pool));
    }
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|k| format!("adit-{k}"))
        .build()
        .map_err(|reason| Error::Threads { threads: count, reason: reason.to_string() })?;
    let pool = Arc::new(built);
    pools.insert((process, count), Arc::clone(&pool));
    Ok(pool)
}
