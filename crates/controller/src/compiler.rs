//! The thread that compiles.
//!
//! Always the same one: what a compile gives lives on, and most of what it needs meanwhile is as large as the
//! configuration. The C library's allocator has an area for each thread, and on threads that take turns every area
//! would come to hold as much, with holes in it.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// A pause between two compiles that is longer ends no thread.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One thread for work that takes long; it ends with this.
#[derive(Debug)]
pub(crate) struct Compiler(Option<Runtime>);

impl Compiler {
    /// # Errors
    /// The system has no room for it.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name("compiler")
            .max_blocking_threads(1)
            .thread_keep_alive(FOREVER)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Does some work after all that it was given before.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // The one who drops it must not wait.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
