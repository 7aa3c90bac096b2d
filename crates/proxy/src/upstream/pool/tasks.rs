//! The tasks that drive the connections to one endpoint, and their end.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout_at};

/// What drives the connections to one endpoint, and the requests on them.
#[derive(Default)]
pub(super) struct Tasks {
    running: RefCell<Vec<AbortHandle>>,
    /// When everything is cut that still runs.
    until: Cell<Option<Instant>>,
}

impl Tasks {
    /// Runs a task until it is over or cut.
    pub(super) fn run(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        if let Some(until) = self.until.get() {
            // A request that began before still comes here.
            return tokio::task::spawn_local(timeout_at(until.into(), task)).abort_handle();
        }
        let mut running = self.running.borrow_mut();
        running.retain(|task| !task.is_finished());
        let task = tokio::task::spawn_local(task).abort_handle();
        running.push(task.clone());
        task
    }

    /// Cuts what still runs at `until`, also what begins after this.
    pub(super) fn end(&self, until: Instant) {
        self.until.set(Some(until));
        let running = std::mem::take(&mut *self.running.borrow_mut());
        if running.iter().any(|task| !task.is_finished()) {
            tokio::task::spawn_local(async move {
                sleep_until(until.into()).await;
                running.iter().for_each(AbortHandle::abort);
            });
        }
    }
}
