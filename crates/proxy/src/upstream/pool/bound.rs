//! Connections that authenticate every user of them: each belongs to one client.
//!
//! NTLM, and Negotiate as most servers do it, authenticate a connection and not a request (RFC 4559 section 6).
//! Once a request with such credentials or an answer that asks for them has crossed an HTTP/1.1 connection to an
//! upstream, only the same connection of a client may use it, and it closes with that.
//!
//! A client's connection has at most one in a pool, and its requests follow each other on it: the messages of one
//! login must not meet different connections, and later requests rely on the login without saying so.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use nuncio_model::{Failure, Reason};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::lease::Http1Lease;
use super::{EndpointPool, Facts, Idle, Lease, LeaseError, Limits, Need, Pool};
use crate::answer::Stay;
use crate::body::RequestBody;

/// A client's connection as the owner of connections to upstreams.
pub(crate) struct Owner {
    /// Unique in its worker.
    id: u64,
    pools: RefCell<Vec<Weak<Pool>>>,
    gone: Cell<bool>,
}

impl Owner {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            pools: RefCell::default(),
            gone: Cell::new(false),
        }
    }

    /// Closes what belongs to it, for its client is gone.
    pub(crate) fn release(&self) {
        self.gone.set(true);
        for pool in self.pools.take().iter().filter_map(Weak::upgrade) {
            pool.bound.end(self.id);
        }
    }

    /// Whether anything ever belonged to it; most clients never log in that way.
    fn has_none(&self) -> bool {
        self.pools.borrow().is_empty()
    }

    fn note(&self, pool: &Rc<Pool>) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|known| known.strong_count() > 0 && known.as_ptr() != Rc::as_ptr(pool));
        pools.push(Rc::downgrade(pool));
    }
}

/// What a connection that belongs to a client knows of that.
pub(super) struct Binding {
    pool: Weak<Pool>,
    owner: u64,
}

impl Binding {
    /// The connection may serve its owner again.
    pub(super) fn keep(
        &self,
        sender: http1::SendRequest<RequestBody>,
        facts: &Rc<Facts>,
        endpoint: &EndpointPool,
        limit: Duration,
    ) {
        if let Some(pool) = self.pool.upgrade() {
            pool.bound.keep(self.owner, sender, facts, endpoint, limit);
        }
    }

    /// The connection is of no more use.
    pub(super) fn end(&self, facts: &Rc<Facts>) {
        if let Some(pool) = self.pool.upgrade()
            && pool.bound.is(self.owner, facts)
        {
            pool.bound.end(self.owner);
        }
    }
}

/// One worker's connections to one upstream that belong to clients, one a client at most.
#[derive(Default)]
pub(super) struct BoundConnections(RefCell<HashMap<u64, Bound>>);

struct Bound {
    facts: Rc<Facts>,
    endpoint: Rc<EndpointPool>,
    /// None while a request is on it.
    idle: Option<Idle>,
    freed: Rc<Notify>,
}

impl Bound {
    fn take_idle(&mut self) -> Option<http1::SendRequest<RequestBody>> {
        let idle = self.idle.take()?;
        self.endpoint.counts.idle.subtract(1);
        Some(idle.sender)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.idle
            .as_ref()
            .is_some_and(|idle| !idle.is_usable(now) || self.endpoint.retired.get())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.take_idle();
        self.freed.notify_waiters();
    }
}

/// What there is for a client's next request.
enum Found {
    Nothing,
    Lease(Lease),
    /// Another of its requests is on its connection.
    Busy(Rc<Notify>, Rc<EndpointPool>),
}

impl BoundConnections {
    fn is(&self, owner: u64, facts: &Rc<Facts>) -> bool {
        let all = self.0.borrow();
        all.get(&owner)
            .is_some_and(|bound| Rc::ptr_eq(&bound.facts, facts))
    }

    fn end(&self, owner: u64) {
        let ended = self.0.borrow_mut().remove(&owner);
        drop(ended);
    }

    fn keep(
        &self,
        owner: u64,
        sender: http1::SendRequest<RequestBody>,
        facts: &Rc<Facts>,
        endpoint: &EndpointPool,
        limit: Duration,
    ) {
        if !self.is(owner, facts) {
            return;
        }
        if endpoint.retired.get() {
            return self.end(owner);
        }
        if let Some(bound) = self.0.borrow_mut().get_mut(&owner) {
            endpoint.counts.idle.add(1);
            bound.idle = Some(Idle {
                sender,
                facts: Rc::clone(facts),
                since: Instant::now(),
                limit,
            });
            bound.freed.notify_one();
        }
    }

    fn find(&self, owner: u64) -> Found {
        let mut all = self.0.borrow_mut();
        let Some(bound) = all.get_mut(&owner) else {
            return Found::Nothing;
        };
        let over = bound.is_over(Instant::now());
        let Some(sender) = bound.take_idle() else {
            return Found::Busy(Rc::clone(&bound.freed), Rc::clone(&bound.endpoint));
        };
        if over {
            drop(all);
            self.end(owner);
            return Found::Nothing;
        }
        bound.endpoint.counts.active.add(1);
        Found::Lease(Lease::Http1(Http1Lease {
            sender: Some(sender),
            facts: Rc::clone(&bound.facts),
            endpoint: Rc::clone(&bound.endpoint),
            reused: true,
            stay: Stay::Open,
            unwanted: None,
        }))
    }

    /// Closes the one that has waited longest; false where none waits.
    pub(super) fn make_room(&self) -> bool {
        let all = self.0.borrow();
        let waiting = all
            .iter()
            .filter_map(|(owner, bound)| Some((bound.idle.as_ref()?.since, *owner)));
        let longest = waiting.min();
        drop(all);
        longest.map(|(_, owner)| self.end(owner)).is_some()
    }

    /// Closes what waited too long, died while it waited, or is at an endpoint that is gone.
    pub(super) fn sweep(&self, now: Instant) {
        let over: Vec<u64> = {
            let all = self.0.borrow();
            let over = all.iter().filter(|(_, bound)| bound.is_over(now));
            over.map(|(owner, _)| *owner).collect()
        };
        over.into_iter().for_each(|owner| self.end(owner));
    }

    /// Of this many idle connections that a worker may keep, half may belong to clients.
    fn has_room(&self, limits: Limits) -> bool {
        self.0.borrow().len() < (limits.most_idle / 2).max(1) || self.make_room()
    }
}

impl Pool {
    /// The connection that belongs to this client, once no other request of the client is on it. None where it
    /// has none.
    pub(crate) async fn lease_bound(&self, owner: &Owner, need: &Need) -> Result<Option<Lease>, LeaseError> {
        if need.fresh || owner.has_none() {
            return Ok(None);
        }
        loop {
            let (freed, endpoint) = match self.bound.find(owner.id) {
                Found::Nothing => return Ok(None),
                Found::Lease(lease) => return Ok(Some(lease)),
                Found::Busy(freed, endpoint) => (freed, endpoint),
            };
            let waited = timeout_at(need.deadline.into(), freed.notified()).await;
            waited.map_err(|_| endpoint.failed(busy(need), None))?;
        }
    }

    /// From now on this connection is for nobody but `owner`. One that its owner has too many of closes after
    /// its answer. An HTTP/2 connection carries requests of everybody, and is left as it is.
    pub(crate) fn bind(self: &Rc<Self>, lease: &Lease, owner: &Owner) {
        let Lease::Http1(lease) = lease else { return };
        let binding = Binding {
            pool: Rc::downgrade(self),
            owner: owner.id,
        };
        if lease.facts.binding.set(binding).is_err() {
            // It is the owner's already: nobody else could have come by it.
            return;
        }
        let has_one = self.bound.0.borrow().contains_key(&owner.id);
        if has_one || owner.gone.get() || !self.bound.has_room(self.limits.get()) {
            return;
        }
        owner.note(self);
        let bound = Bound {
            facts: Rc::clone(&lease.facts),
            endpoint: Rc::clone(&lease.endpoint),
            idle: None,
            freed: Rc::default(),
        };
        self.bound.0.borrow_mut().insert(owner.id, bound);
    }
}

fn busy(need: &Need) -> Failure {
    Failure {
        reason: Reason::Overflow,
        message: format!(
            "the client has logged in on one connection (NTLM or Negotiate), which another of its requests held \
             for all of {} ms",
            need.limit.as_millis()
        ),
        remedy: "let the client use HTTP/1.1 or more connections, or raise spec.connect_timeout_ms"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
