//! How long a request may take.
//!
//! The time of `timeout_ms` runs from the end of the request to the end of the response, as it does
//! in Envoy: a client may take its time to send a large body. Where no limit is set, and while a
//! body is on its way, nothing may stand still for longer than [`STREAM_IDLE`].

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::body::Interrupted;
use crate::expectation::Gate;
use crate::incoming::Incoming;
use crate::uploads::{Pace, Uploads};

/// The longest time without a byte either way, as in Envoy unless told otherwise.
pub(crate) const STREAM_IDLE: Duration = Duration::from_secs(300);

/// A request's body as far as it has come.
#[derive(Default)]
pub(crate) struct Upload {
    pub(crate) body: RefCell<Option<Incoming>>,
    /// Which attempt may read it.
    pub(crate) turn: Cell<u32>,
    /// Some of it was read.
    pub(crate) begun: Cell<bool>,
    /// Holds it back where the client expects 100 first.
    pub(crate) gate: Gate,
    /// Bytes that were passed on.
    pub(crate) bytes: Rc<Cell<u64>>,
    /// Bytes that its trailers may have.
    pub(crate) most_trailers: usize,
    /// Why it will never be complete.
    pub(crate) interrupted: OnceCell<Interrupted>,
    pub(crate) pace: Pace,
    ended: Cell<Option<Instant>>,
    end: Notify,
}

impl Upload {
    pub(crate) fn new(body: Incoming, most_trailers: usize, uploads: &Rc<Uploads>) -> Self {
        Self {
            body: RefCell::new(Some(body)),
            most_trailers,
            pace: Pace::new(uploads),
            ..Self::default()
        }
    }

    /// The body is complete, or will not be.
    pub(crate) fn ended(&self) {
        if self.ended.get().is_none() {
            self.ended.set(Some(Instant::now()));
            self.end.notify_one();
        }
    }

    /// Whether more of it may come.
    pub(crate) fn is_under_way(&self) -> bool {
        self.ended.get().is_none() && self.interrupted.get().is_none()
    }

    /// Who waits for an answer to it is to look at it.
    pub(crate) fn wake(&self) {
        self.end.notify_one();
    }

    /// It came too slowly for its upstream to wait any longer.
    fn is_too_slow(&self) -> bool {
        self.interrupted.get().is_some_and(Interrupted::is_slowness)
    }

    /// The upstream has answered. One that did so without content that the client holds back wants none.
    pub(crate) fn answered(&self) -> bool {
        let unwanted = self.gate.answered();
        if unwanted {
            self.body.take();
            self.ended();
        }
        unwanted
    }

    /// It goes on with another attempt.
    pub(crate) fn go_on(&self) {
        self.ended.set(None);
    }
}

/// The time limit of one request.
pub(crate) struct Patience {
    limit: Option<Duration>,
    idle: Duration,
    started: Instant,
    /// None where the request has no body.
    upload: Option<Rc<Upload>>,
}

/// One of the times that a request is sent.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) began: Instant,
    /// For its answer, from its beginning or the end of the request, whichever is later.
    pub(crate) limit: Option<Duration>,
}

impl Patience {
    pub(crate) fn new(limit: Option<Duration>, started: Instant, upload: Option<Rc<Upload>>) -> Self {
        Self {
            limit,
            idle: STREAM_IDLE,
            started,
            upload,
        }
    }

    pub(crate) fn upload(&self) -> Option<&Rc<Upload>> {
        self.upload.as_ref()
    }

    /// Why the request can never be complete, where its client is the reason.
    pub(crate) fn interrupted(&self) -> Option<&Interrupted> {
        self.upload.as_ref()?.interrupted.get()
    }

    /// When the request was complete; none while it is not.
    fn sent(&self) -> Option<Instant> {
        match &self.upload {
            Some(upload) => upload.ended.get(),
            None => Some(self.started),
        }
    }

    /// When the response must be complete; none while the request is not, or where there is no limit.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(self.sent()? + self.limit?)
    }

    fn deadline_of(&self, attempt: Attempt) -> Option<Instant> {
        Some(self.sent()?.max(attempt.began) + attempt.limit?)
    }

    /// What `future`, an attempt, gives; none when it took too long, or the request did, or its body came too
    /// slowly.
    pub(crate) async fn wait<F: Future>(&self, future: F, attempt: Attempt) -> Option<F::Output> {
        let mut future = pin!(future);
        loop {
            if self.upload.as_ref().is_some_and(|upload| upload.is_too_slow()) {
                return None;
            }
            let seen = self.passed();
            let ends = self.deadline().into_iter().chain(self.deadline_of(attempt));
            let until = ends.min().unwrap_or_else(|| Instant::now() + self.idle);
            let Some(upload) = self.upload.as_ref().filter(|upload| upload.ended.get().is_none()) else {
                return timeout_at(until.into(), future).await.ok();
            };
            tokio::select! {
                output = &mut future => {
                    upload.pace.set_free();
                    return Some(output);
                }
                () = upload.end.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {
                    if self.passed() == seen {
                        return None;
                    }
                }
            }
        }
    }

    fn passed(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.bytes.get())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn patience(limit: Option<Duration>, upload: Option<&Rc<Upload>>) -> Patience {
        let mut patience = Patience::new(limit, Instant::now(), upload.cloned());
        patience.idle = Duration::ZERO;
        patience
    }

    fn unlimited() -> Attempt {
        Attempt {
            began: Instant::now(),
            limit: None,
        }
    }

    #[tokio::test]
    async fn an_attempt_may_have_less_time_than_the_request() {
        let short = Attempt {
            limit: Some(Duration::ZERO),
            ..unlimited()
        };
        assert_eq!(
            patience(Some(HOUR), None).wait(pending::<()>(), short).await,
            None
        );
        let upload = Rc::new(Upload::default());
        let patience = patience(Some(HOUR), Some(&upload));
        assert_eq!(patience.deadline_of(short), None, "the request is not complete");
        upload.ended();
        assert_eq!(patience.wait(pending::<()>(), short).await, None);
    }

    #[tokio::test]
    async fn the_limit_of_a_request_without_a_body_runs_from_its_start() {
        let short = patience(Some(Duration::ZERO), None);
        assert_eq!(short.deadline(), Some(short.started));
        assert_eq!(short.wait(pending::<()>(), unlimited()).await, None);
        assert_eq!(
            patience(Some(HOUR), None).wait(async { 7 }, unlimited()).await,
            Some(7)
        );
    }

    #[tokio::test]
    async fn without_a_limit_nothing_may_stand_still() {
        let patience = patience(None, None);
        assert_eq!(patience.deadline(), None);
        assert_eq!(patience.wait(pending::<()>(), unlimited()).await, None);
    }

    #[tokio::test]
    async fn the_limit_of_a_request_with_a_body_runs_from_its_end() {
        let upload = Rc::new(Upload::default());
        let patience = patience(Some(Duration::ZERO), Some(&upload));
        assert_eq!(patience.deadline(), None);
        upload.ended();
        assert_eq!(patience.deadline(), upload.ended.get());
        assert_eq!(patience.wait(pending::<()>(), unlimited()).await, None);
    }

    #[tokio::test]
    async fn the_end_of_the_body_starts_the_clock_of_who_waits_already() {
        let upload = Rc::new(Upload::default());
        let mut patience = patience(Some(Duration::ZERO), Some(&upload));
        patience.idle = HOUR;
        let end = async {
            tokio::task::yield_now().await;
            upload.ended();
        };
        assert_eq!(
            tokio::join!(patience.wait(pending::<()>(), unlimited()), end),
            (None, ())
        );
    }

    #[tokio::test]
    async fn a_body_that_moves_may_take_longer_than_one_that_stands_still() {
        let upload = Rc::new(Upload::default());
        let patience = patience(Some(Duration::ZERO), Some(&upload));
        let mut polls = 0;
        let moving = poll_fn(|cx| {
            polls += 1;
            upload.bytes.set(polls);
            cx.waker().wake_by_ref();
            if polls == 100 {
                Poll::Ready("done")
            } else {
                Poll::Pending
            }
        });
        assert_eq!(patience.wait(moving, unlimited()).await, Some("done"));
        assert_eq!(patience.wait(pending::<()>(), unlimited()).await, None);
    }
}
