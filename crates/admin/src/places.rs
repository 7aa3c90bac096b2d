//! Who has a connection, and who gives one up for the next.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The connections of the interface.
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by: HashMap<u64, Arc<Holder>>,
}

struct Holder {
    phase: Mutex<Phase>,
    give_up: Notify,
}

/// What a connection is about, and since when.
#[derive(Clone, Copy)]
struct Phase {
    answers: bool,
    since: Instant,
}

/// The place of one connection, free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    holder: Arc<Holder>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            taken: Mutex::default(),
        })
    }

    /// A place for a new connection; another gives up its own where all are taken.
    pub(crate) fn take(self: &Arc<Self>) -> Place {
        let mut taken = lock(&self.taken);
        while taken.by.len() >= self.most && taken.give_up_one() {}
        let holder = Arc::new(Holder {
            phase: Mutex::new(Phase {
                answers: false,
                since: Instant::now(),
            }),
            give_up: Notify::new(),
        });
        let id = taken.next;
        taken.next += 1;
        taken.by.insert(id, Arc::clone(&holder));
        Place {
            places: Arc::clone(self),
            id,
            holder,
        }
    }

    /// Ends the connection that can be spared most.
    pub(crate) fn give_up_one(&self) {
        lock(&self.taken).give_up_one();
    }
}

impl Taken {
    /// Of those that wait for a request the one that has waited longest; else the one that has been
    /// answered longest.
    fn give_up_one(&mut self) -> bool {
        let rank = |holder: &Arc<Holder>| {
            let phase = *lock(&holder.phase);
            (phase.answers, phase.since)
        };
        let spared = self.by.iter().min_by_key(|(id, holder)| (rank(holder), **id));
        let Some(id) = spared.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(holder) = self.by.remove(&id) {
            holder.give_up.notify_one();
        }
        true
    }
}

impl Place {
    /// A request came.
    pub(crate) fn answers(&self) {
        self.enter(true);
    }

    /// The answer is out; another request may come.
    pub(crate) fn listens(&self) {
        self.enter(false);
    }

    fn enter(&self, answers: bool) {
        let since = Instant::now();
        *lock(&self.holder.phase) = Phase { answers, since };
    }

    /// Waits until the place goes to another client.
    pub(crate) fn given_up(&self) -> impl Future<Output = ()> {
        self.holder.give_up.notified()
    }

    /// Waits until an answer has not been taken for so long.
    pub(crate) async fn overdue(&self, limit: Duration) {
        loop {
            let Phase { answers, since } = *lock(&self.holder.phase);
            let now = Instant::now();
            let due = if answers { since } else { now } + limit;
            if due <= now {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.taken).by.remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
