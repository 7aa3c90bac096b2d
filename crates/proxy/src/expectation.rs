//! `Expect: 100-continue`, end to end (RFC 9110 section 10.1.1).
//!
//! The client holds its content back until 100 comes. So does the gateway: it reads nothing of the content, which
//! would have hyper send 100, until the upstream has sent it. An upstream that gives its answer at once instead
//! never sees the content, nor does the gateway.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::body::Interrupted;

/// So long an upstream may take to send 100, as curl waits: many know nothing of it, and wait for the content.
const PATIENCE: Duration = Duration::from_secs(1);

/// What holds content back.
#[derive(Default)]
pub(crate) struct Gate {
    state: Cell<State>,
    continued: Arc<AtomicBool>,
    opens: RefCell<Option<Pin<Box<Sleep>>>>,
    waker: RefCell<Option<Waker>>,
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
    /// Holds the content back. 100 is there when the flag is set by the one that sees it.
    pub(crate) fn shut(&self) -> Arc<AtomicBool> {
        self.state.set(State::Shut);
        self.opens.replace(None);
        Arc::clone(&self.continued)
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
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Interrupted>> {
        match self.state.get() {
            State::Open => return Poll::Ready(Ok(())),
            State::Over => return Poll::Ready(Err(Interrupted::Unwanted)),
            State::Shut if self.continued.load(Ordering::Relaxed) || self.is_late(cx) => {
                self.state.set(State::Open);
                return Poll::Ready(Ok(()));
            }
            State::Shut | State::Unwanted => {}
        }
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn is_late(&self, cx: &mut Context<'_>) -> bool {
        let mut opens = self.opens.borrow_mut();
        let opens = opens.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        opens.as_mut().poll(cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_waits_for_the_upstream() {
        let poll = |gate: &Gate| gate.poll(&mut Context::from_waker(Waker::noop()));
        let open = Gate::default();
        assert!(matches!(poll(&open), Poll::Ready(Ok(()))));
        assert!(!open.answered());

        let told = Gate::default();
        let continued = told.shut();
        assert!(poll(&told).is_pending());
        continued.store(true, Ordering::Relaxed);
        assert!(matches!(poll(&told), Poll::Ready(Ok(()))));
        assert!(!told.answered(), "it is on its way");

        let refused = Gate::default();
        refused.shut();
        assert!(refused.answered());
        assert!(poll(&refused).is_pending(), "the answer is still on its way");
        refused.give_up();
        assert!(matches!(poll(&refused), Poll::Ready(Err(Interrupted::Unwanted))));
    }
}
