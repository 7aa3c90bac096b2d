//! The tasks that drive the connections to one endpoint, and their end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout_at};

/// What drives the connections to one endpoint. Hyper is given this to run things on, because most of an
/// HTTP/2 connection is a task of its own, which has to end with the rest.
#[derive(Clone, Default)]
pub(super) struct Tasks(Rc<State>);

#[derive(Default)]
struct State {
    running: RefCell<Vec<AbortHandle>>,
    /// When everything is cut that still runs.
    until: Cell<Option<Instant>>,
}

impl Tasks {
    /// Runs a task until it is over or cut.
    pub(super) fn run(&self, task: impl Future<Output = ()> + 'static) {
        if let Some(until) = self.0.until.get() {
            // A request that began before still comes here.
            tokio::task::spawn_local(timeout_at(until.into(), task));
            return;
        }
        let mut running = self.0.running.borrow_mut();
        running.retain(|task| !task.is_finished());
        running.push(tokio::task::spawn_local(task).abort_handle());
    }

    /// Cuts what still runs at `until`, also what begins after this.
    pub(super) fn end(&self, until: Instant) {
        self.0.until.set(Some(until));
        let running = std::mem::take(&mut *self.0.running.borrow_mut());
        if running.iter().any(|task| !task.is_finished()) {
            tokio::task::spawn_local(async move {
                sleep_until(until.into()).await;
                running.iter().for_each(AbortHandle::abort);
            });
        }
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.run(async move {
            future.await;
        });
    }
}
