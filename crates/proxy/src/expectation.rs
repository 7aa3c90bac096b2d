//! `Expect: 100-continue`, end to end (RFC 9110 section 10.1.1).
//!
//! The client holds its content back until 100 comes. So does the gateway: it reads nothing of the content until
//! the upstream has sent 100. An upstream that gives its answer at once instead never sees the content, nor does the
//! gateway. hyper sends 100 to a client of HTTP/1.1 when the content is first read; to one of HTTP/2 it is sent here.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Sleep, sleep};

use crate::body::Interrupted;
use crate::client::interim::Outlet;

/// So long an upstream may take to send 100, as curl waits: many know nothing of it, and wait for the content.
const PATIENCE: Duration = Duration::from_secs(1);

/// What holds content back.
#[derive(Default)]
pub(crate) struct Gate {
    state: Cell<State>,
    continued: RefCell<Arc<Continued>>,
    opens: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Where 100 is sent when it opens.
    client: RefCell<Option<Outlet>>,
}

/// Whether 100 has come. The one that reads the upstream's answers sets it.
#[derive(Debug, Default)]
pub(crate) struct Continued {
    come: AtomicBool,
    waiting: AtomicWaker,
}

impl Continued {
    pub(crate) fn set(&self) {
        self.come.store(true, Ordering::Relaxed);
        self.waiting.wake();
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Until the upstream sends 100, or too much time passes.
    Shut,
    /// The upstream has answered.
    Unwanted,
    /// And that answer is complete.
    Over,
}

impl Gate {
    /// Holds the content back. `client` is where 100 is sent when it is to come, where nothing else sends it.
    pub(crate) fn shut(&self, client: Option<Outlet>) -> Arc<Continued> {
        let continued = Arc::<Continued>::default();
        self.state.set(State::Shut);
        self.opens.replace(None);
        self.client.replace(client);
        self.continued.replace(Arc::clone(&continued));
        continued
    }

    pub(crate) fn open(&self) {
        self.state.set(State::Open);
    }

    /// The upstream has answered. Says whether it did without the content, which is not wanted then.
    pub(crate) fn answered(&self) -> bool {
        let unwanted = self.state.get() == State::Shut;
        if unwanted {
            self.state.set(State::Unwanted);
        }
        unwanted
    }

    /// The answer is complete: who still waits for the content, waits in vain.
    pub(crate) fn give_up(&self) {
        self.state.set(State::Over);
        self.continued.borrow().waiting.wake();
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        match self.state.get() {
            State::Open => Poll::Ready(Ok(())),
            State::Over => Poll::Ready(Err(Interrupted::Unwanted)),
            State::Shut if self.is_continued() || self.is_late(cx) => {
                self.state.set(State::Open);
                if let Some(client) = self.client.take() {
                    client.put_continue();
                }
                Poll::Ready(Ok(()))
            }
            State::Shut | State::Unwanted => {
                self.continued.borrow().waiting.register(cx.waker());
                Poll::Pending
            }
        }
    }

    fn is_continued(&self) -> bool {
        self.continued.borrow().come.load(Ordering::Relaxed)
    }

    fn is_late(&self, cx: &mut Context<'_>) -> bool {
        let mut opens = self.opens.borrow_mut();
        let opens = opens.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        opens.as_mut().poll(cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn content_waits_for_the_upstream() {
        let poll = |gate: &Gate| gate.poll(&mut Context::from_waker(Waker::noop()));
        let open = Gate::default();
        assert!(matches!(poll(&open), Poll::Ready(Ok(()))));
        assert!(!open.answered());

        let told = Gate::default();
        let continued = told.shut(None);
        assert!(poll(&told).is_pending());
        continued.set();
        assert!(matches!(poll(&told), Poll::Ready(Ok(()))));
        assert!(!told.answered(), "it is on its way");

        told.shut(None);
        assert!(poll(&told).is_pending(), "another attempt waits anew");

        let refused = Gate::default();
        refused.shut(None);
        assert!(refused.answered());
        assert!(poll(&refused).is_pending(), "the answer is still on its way");
        refused.give_up();
        assert!(matches!(poll(&refused), Poll::Ready(Err(Interrupted::Unwanted))));
    }
}
