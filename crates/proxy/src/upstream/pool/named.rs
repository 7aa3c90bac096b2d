//! Pools of upstreams whose server name each request decides (`auto_sni`, row S16): one a name.
//!
//! A name has everything of its own, as any upstream has: connections, session tickets, what is remembered of
//! failures. So no connection, HTTP/2 or not, ever carries requests of two names. Clients choose the names, so
//! there is a limit to how many are kept, and those of one upstream share its limits and its metrics.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use nuncio_model::{AutoSni, Failure, Identity, Reason};
use nuncio_tls::RequestName;

use super::super::live::{LiveUpstream, lock};
use super::Pool;

/// Names of one upstream that a worker keeps at a time.
const MOST_NAMES: usize = 256;

/// One worker's pools of one upstream by server name.
#[derive(Default)]
pub(super) struct Named {
    pools: RefCell<HashMap<Arc<str>, NamedPool>>,
    uses: Cell<u64>,
}

struct NamedPool {
    pool: Rc<Pool>,
    /// When it was used last, in uses of all of them.
    used: Cell<u64>,
}

impl NamedPool {
    /// Requests hold their pool until their response is over.
    fn is_in_use(&self) -> bool {
        Rc::strong_count(&self.pool) > 1
    }
}

impl Named {
    /// None where the configuration decides the server name.
    pub(super) fn of(identity: &Identity) -> Option<Self> {
        let tls = identity.tls.as_ref()?;
        (tls.auto_sni != AutoSni::Off).then(Self::default)
    }

    fn known(&self, name: &str) -> Option<Rc<Pool>> {
        let pools = self.pools.borrow();
        let known = pools.get(name)?;
        known.used.set(self.next_use());
        Some(Rc::clone(&known.pool))
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    /// Closes the pool that was used longest ago, of those that no request is using.
    fn make_room(&self) {
        let mut pools = self.pools.borrow_mut();
        let idle = pools.iter().filter(|(_, named)| !named.is_in_use());
        let oldest = idle.min_by_key(|(_, named)| named.used.get());
        if let Some(name) = oldest.map(|(name, _)| Arc::clone(name))
            && let Some(named) = pools.remove(&name)
        {
            named.pool.retire();
        }
    }
}

impl Pool {
    /// A pool for an upstream, and where requests decide its server name, for all of its names.
    pub(crate) fn for_upstream(mut self) -> Self {
        self.named = Named::of(&self.live.identity);
        self
    }

    /// The pool of requests with this authority, where each name has one; none where this one is for all.
    pub(crate) fn of_authority(&self, authority: &[u8]) -> Option<Result<Rc<Self>, Failure>> {
        let named = self.named.as_ref()?;
        // What is no text is no name.
        let name = RequestName::of(std::str::from_utf8(authority).unwrap_or_default());
        let text = name.text();
        let known = named.known(&text);
        if self.live.is_crowded() {
            // What waits at names that are not in use must not keep others from connecting.
            named.make_room();
        }
        Some(match known {
            Some(pool) => Ok(pool),
            None => self.new_name(named, &name, &text),
        })
    }

    fn new_name(&self, named: &Named, name: &RequestName<'_>, text: &str) -> Result<Rc<Self>, Failure> {
        if named.pools.borrow().len() >= MOST_NAMES {
            named.make_room();
        }
        let mut pools = named.pools.borrow_mut();
        if pools.len() >= MOST_NAMES {
            return Err(too_many_names());
        }
        let key: Arc<str> = text.into();
        let live = self.live.of_request(&key, name);
        let pool = Self {
            handshakes: Rc::clone(&self.handshakes),
            retired: Cell::new(self.retired.get()),
            ..Self::new(live, Arc::clone(&self.codes.borrow()), self.limits.get())
        };
        let pool = Rc::new(pool);
        let used = Cell::new(named.next_use());
        let entry = NamedPool {
            pool: Rc::clone(&pool),
            used,
        };
        pools.insert(key, entry);
        Ok(pool)
    }

    pub(super) fn each_named(&self, act: impl Fn(&Self)) {
        let Some(named) = &self.named else { return };
        named.pools.borrow().values().for_each(|named| act(&named.pool));
    }
}

impl LiveUpstream {
    /// The upstream of one server name, which the workers share.
    fn of_request(self: &Arc<Self>, key: &Arc<str>, name: &RequestName<'_>) -> Arc<Self> {
        let mut names = lock(&self.of_names);
        if let Some(live) = names.get(key).and_then(Weak::upgrade) {
            return live;
        }
        names.retain(|_, live| live.strong_count() > 0);
        let mut identity = Identity::clone(&self.identity);
        identity.tls = identity.tls.map(|tls| Arc::new(name.settings(&tls)));
        let live = Arc::new(Self::of_name(self, Arc::new(identity)));
        names.insert(Arc::clone(key), Arc::downgrade(&live));
        live
    }
}

fn too_many_names() -> Failure {
    Failure {
        reason: Reason::Overflow,
        message: format!("requests with {MOST_NAMES} other names are under way to this upstream"),
        remedy: "narrow the hostname of the Mapping, or set spec.sni instead of spec.auto_sni".to_owned(),
    }
}

#[cfg(test)]
#[path = "named/tests.rs"]
mod tests;
