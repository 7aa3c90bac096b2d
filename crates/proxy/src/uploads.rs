//! Request bodies that are waited for, and what becomes of one that comes too slowly.
//!
//! While a request's body is on its way, the request holds a connection to its upstream, or a stream of one.
//! A client that stands still would hold it for nothing, and enough of them would take the upstream from
//! everybody. So a body must bring `min_request_rate` bytes a second, as long as the upstream would take more of it and
//! has not begun to answer. Time counts only while the client is what is waited for.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;

use crate::body::Interrupted;
use crate::patience::Upload;

/// Seconds from the first wait in which the rate does not matter.
const GRACE: u64 = 30;
/// Seconds over which the rate is averaged.
const WINDOW: u64 = 30;
/// An upload that has been waited for this many of the worker's seconds may make room for another request where the
/// upstream has no connection left.
const SPARED_AFTER: u64 = 2;

/// The uploads of a worker that have been waited for.
#[derive(Default)]
pub(crate) struct Uploads {
    waited_for: RefCell<Vec<Weak<Upload>>>,
    second: Cell<u64>,
}

/// How an upload comes along.
#[derive(Default)]
pub(crate) struct Pace {
    registry: Rc<Uploads>,
    /// It is among those of the registry.
    registered: Cell<bool>,
    /// Wakes who waits for the client; none while nobody does.
    waiting: RefCell<Option<Waker>>,
    /// No rate is asked of it: the upstream answers already, or both sides may be silent.
    free: Cell<bool>,
    /// The address of the counter of connections among which it has one.
    slots: Cell<usize>,
    /// The worker's second in which the client was first waited for.
    since: Cell<u64>,
    /// When the window began, and what had come by then.
    window: Cell<(u64, u64)>,
    /// Bytes that might have come while the client was not waited for.
    credit: Cell<u64>,
    /// What had come when it was last looked at.
    seen: Cell<u64>,
    /// Bytes a second of late: each second counts half as much as the one after it.
    rate: Cell<u64>,
}

impl Pace {
    pub(crate) fn new(registry: &Rc<Uploads>) -> Self {
        Self {
            registry: Rc::clone(registry),
            ..Self::default()
        }
    }

    /// From now on no rate is asked of it.
    pub(crate) fn set_free(&self) {
        self.free.set(true);
    }

    /// Among these it has a connection.
    pub(crate) fn holds(&self, slots: usize) {
        self.slots.set(slots);
    }

    /// The client has sent what is wanted of it.
    pub(crate) fn moves(&self) {
        if self.registered.get() {
            self.waiting.replace(None);
        }
    }
}

impl Upload {
    /// More is wanted than the client has sent.
    pub(crate) fn waits(self: &Rc<Self>, waker: &Waker) {
        let pace = &self.pace;
        let mut waiting = pace.waiting.borrow_mut();
        if waiting.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *waiting = Some(waker.clone());
        }
        if !pace.registered.replace(true) {
            pace.since.set(pace.registry.second.get());
            // What came in one go at the beginning says nothing of what is to come.
            pace.seen.set(self.bytes.get().saturating_add(pace.credit.get()));
            pace.registry.waited_for.borrow_mut().push(Rc::downgrade(self));
        }
    }

    fn is_bound(&self) -> bool {
        !self.pace.free.get() && self.is_under_way()
    }

    fn is_waited_for(&self) -> bool {
        self.pace.waiting.borrow().is_some()
    }

    /// Looks at it once a second. False when there is no more to look at.
    fn keep_watching(&self, second: u64, least: u64) -> bool {
        let pace = &self.pace;
        if !self.is_bound() {
            pace.registered.set(false);
            return false;
        }
        if !self.is_waited_for() {
            pace.credit.set(pace.credit.get().saturating_add(least));
        }
        let come = self.bytes.get().saturating_add(pace.credit.get());
        let new = come.saturating_sub(pace.seen.replace(come));
        pace.rate.set(pace.rate.get().saturating_add(new) / 2);
        let (began, before) = pace.window.get();
        if second.saturating_sub(pace.since.get()) < GRACE {
            pace.window.set((second, come));
        } else if second.saturating_sub(began) >= WINDOW {
            if come.saturating_sub(before) < least.saturating_mul(WINDOW) {
                self.give_up(Interrupted::TooSlow(least));
                return false;
            }
            pace.window.set((second, come));
        }
        true
    }

    /// It loses its connection.
    fn give_up(&self, why: Interrupted) {
        let _ = self.interrupted.set(why);
        self.pace.registered.set(false);
        self.wake();
        if let Some(waiting) = self.pace.waiting.take() {
            waiting.wake();
        }
    }

    /// Its rate of late, and since when it is waited for; none where it is not to be spared.
    fn shortfall(&self, slots: usize, second: u64, least: u64) -> Option<(u64, u64)> {
        let (rate, since) = (self.pace.rate.get(), self.pace.since.get());
        let spared = self.is_bound() && self.is_waited_for() && self.pace.slots.get() == slots;
        let known = second.saturating_sub(since) >= SPARED_AFTER;
        (spared && known && rate < least).then_some((rate, since))
    }
}

impl Uploads {
    /// A second has passed. Those that bring less than `least` bytes a second lose their connection; zero asks for
    /// no rate.
    pub(crate) fn tick(&self, second: u64, least: u64) {
        self.second.set(second);
        self.waited_for.borrow_mut().retain(|upload| {
            upload
                .upgrade()
                .is_some_and(|upload| upload.keep_watching(second, least))
        });
    }

    /// Takes a connection from the upload that is furthest below its rate of late, among those that have one of
    /// `slots`. Says whether there was one.
    pub(crate) fn spare_one(&self, slots: usize, least: u64) -> bool {
        let second = self.second.get();
        let all = self.waited_for.borrow();
        let all = all.iter().filter_map(Weak::upgrade);
        let short = all.filter_map(|upload| Some((upload.shortfall(slots, second, least)?, upload)));
        let Some((_, upload)) = short.min_by_key(|(shortfall, _)| *shortfall) else {
            return false;
        };
        upload.give_up(Interrupted::Spared(least));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 1024;

    /// An upload whose client is waited for, since the second that it is now.
    fn upload(uploads: &Rc<Uploads>) -> Rc<Upload> {
        let mut upload = Upload::default();
        upload.pace = Pace::new(uploads);
        let upload = Rc::new(upload);
        upload.pace.holds(1);
        upload.waits(Waker::noop());
        upload
    }

    /// The second in which an upload lost its connection that brings so much in each; none within ten minutes.
    fn lost(each: impl Fn(&Rc<Upload>, u64)) -> Option<u64> {
        let uploads = Rc::<Uploads>::default();
        let upload = upload(&uploads);
        (1..=600).find(|second| {
            each(&upload, *second);
            uploads.tick(*second, LEAST);
            upload.interrupted.get().is_some()
        })
    }

    fn bring(upload: &Upload, bytes: u64) {
        upload.bytes.set(upload.bytes.get() + bytes);
    }

    #[test]
    fn an_upload_below_the_rate_loses_its_connection() {
        assert_eq!(lost(|_, _| {}), Some(GRACE + WINDOW - 1));
        assert_eq!(
            lost(|upload, _| bring(upload, LEAST - 1)),
            Some(GRACE + WINDOW - 1)
        );
    }

    #[test]
    fn an_upload_at_the_rate_keeps_its_connection() {
        assert_eq!(lost(|upload, _| bring(upload, LEAST)), None);
        // In bursts as well, for it is an average.
        let burst = |upload: &Rc<Upload>, second: u64| {
            if second.is_multiple_of(15) {
                bring(upload, 16 * LEAST);
            }
        };
        assert_eq!(lost(burst), None);
    }

    #[test]
    fn a_pause_at_the_beginning_is_forgiven() {
        let late = |upload: &Rc<Upload>, second: u64| {
            if second >= GRACE {
                bring(upload, LEAST + 1);
            }
        };
        assert_eq!(lost(late), None);
    }

    #[test]
    fn time_that_the_upstream_takes_does_not_count() {
        let held = |upload: &Rc<Upload>, second: u64| {
            if second == 1 {
                upload.pace.moves();
            }
        };
        assert_eq!(lost(held), None);
    }

    #[test]
    fn an_upload_that_is_answered_may_be_slow() {
        assert_eq!(lost(|upload, _| upload.pace.set_free()), None);
        assert_eq!(lost(|upload, _| upload.ended()), None);
    }

    #[test]
    fn the_slowest_upload_makes_room() {
        let uploads = Rc::<Uploads>::default();
        let (slow, slower, fast) = (upload(&uploads), upload(&uploads), upload(&uploads));
        let elsewhere = upload(&uploads);
        elsewhere.pace.holds(2);
        bring(&slow, 1000);
        bring(&fast, 1 << 20);
        assert!(!uploads.spare_one(1, LEAST), "none has been waited for");
        (1..=SPARED_AFTER).for_each(|second| uploads.tick(second, LEAST));
        let given_up =
            || [&slow, &slower, &fast, &elsewhere].map(|upload| upload.interrupted.get().is_some());
        assert!(uploads.spare_one(1, LEAST));
        assert_eq!(given_up(), [false, true, false, false]);
        assert!(uploads.spare_one(1, LEAST));
        assert_eq!(given_up(), [true, true, false, false]);
        assert!(!uploads.spare_one(1, LEAST), "the others are fast, or elsewhere");
    }

    #[test]
    fn an_upload_that_stalls_after_a_burst_makes_room() {
        let uploads = Rc::<Uploads>::default();
        let mut stalled = Upload::default();
        stalled.pace = Pace::new(&uploads);
        let stalled = Rc::new(stalled);
        stalled.pace.holds(1);
        bring(&stalled, 1 << 20);
        stalled.waits(Waker::noop());
        (1..=SPARED_AFTER).for_each(|second| uploads.tick(second, LEAST));
        assert!(uploads.spare_one(1, LEAST));
        assert!(stalled.interrupted.get().is_some());
    }
}
