//! A snapshot as one worker serves it: with the pools that belong to its upstreams.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use nuncio_model::{Action, Identity, Listener, Snapshot, Target, Upstream, UpstreamIndex};

use crate::counter::Codes;
use crate::stats::WorkerStats;
use crate::upstream::live::Registry;
use crate::upstream::pool::{Limits, Pool};

/// Loaded once by a request, at its start.
pub(crate) struct Serving {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Made when first used, one an upstream.
    pools: Vec<OnceCell<Rc<Pool>>>,
    limits: Limits,
    /// By target; the key is the target's address in the snapshot, which this value keeps alive.
    targets: RefCell<HashMap<usize, Rc<LiveTarget>>>,
}

/// What is made once for a target and used by each of its requests.
pub(crate) struct LiveTarget {
    /// Responses of its Mapping.
    pub(crate) codes: Arc<Codes>,
    /// Its timeout in milliseconds, for `x-envoy-expected-rq-timeout-ms`.
    pub(crate) expected_timeout: Option<HeaderValue>,
}

/// What becomes of the pools that were used with another snapshot.
pub(crate) struct Change<'a> {
    /// By upstream of the new one: the pool of an upstream that did not change but for its name.
    kept: Vec<Option<Used<'a>>>,
    /// Those of upstreams that are not in it.
    gone: Vec<Used<'a>>,
}

/// A pool, and what its upstream was called.
#[derive(Clone, Copy)]
struct Used<'a> {
    pool: &'a Rc<Pool>,
    name: &'a Arc<str>,
}

impl<'a> Change<'a> {
    /// From what is served now.
    pub(crate) fn new(before: Option<&'a Serving>, snapshot: &Snapshot) -> Self {
        let used = before.into_iter().flat_map(Serving::used);
        // What compiles to the same is the same object, and no content needs to be compared.
        let mut known: HashMap<*const Identity, Used<'a>> = used.collect();
        let upstreams = snapshot.upstreams.iter();
        let mut kept: Vec<_> = upstreams
            .map(|upstream| known.remove(&Arc::as_ptr(&upstream.identity)))
            .collect();
        let mut others: HashMap<_, Vec<Used<'a>>> = HashMap::new();
        for used in known.into_values() {
            let Identity { host, port, .. } = &*used.pool.live.identity;
            others.entry((host, *port)).or_default().push(used);
        }
        if !others.is_empty() {
            for (kept, upstream) in kept.iter_mut().zip(&snapshot.upstreams) {
                let identity = &upstream.identity;
                if kept.is_none()
                    && let Some(alike) = others.get_mut(&(&identity.host, identity.port))
                    && let Some(at) = alike.iter().position(|used| used.pool.live.identity == *identity)
                {
                    *kept = Some(alike.swap_remove(at));
                }
            }
        }
        let gone = others.into_values().flatten().collect();
        Self { kept, gone }
    }

    /// Connected pools that have a successor: the new pool of an upstream that is called the same, and speaks to
    /// the same endpoints with other TLS.
    pub(crate) fn successions(
        &self,
        snapshot: &Snapshot,
        limits: Limits,
        registry: &Registry,
        stats: &WorkerStats,
    ) -> Vec<Succession> {
        let connected = self.gone.iter().filter(|used| used.pool.is_connected());
        let of_name: HashMap<&Arc<str>, &Rc<Pool>> = connected.map(|used| (used.name, used.pool)).collect();
        if of_name.is_empty() {
            return Vec::new();
        }
        let all = snapshot.upstreams.iter().zip(&self.kept);
        let succeeded = all.filter_map(|(upstream, kept)| {
            let before = *of_name.get(&upstream.name).filter(|_| kept.is_none())?;
            let (old, new) = (&before.live.identity, &upstream.identity);
            let warms = old.resolve == new.resolve && old.port == new.port && new.tls.is_some();
            warms.then(|| Succession {
                before: Rc::clone(before),
                pool: new_pool(upstream, limits, registry, stats),
            })
        });
        succeeded.collect()
    }
}

/// A pool that is about to take the place of another.
pub(crate) struct Succession {
    pub(crate) before: Rc<Pool>,
    pub(crate) pool: Rc<Pool>,
}

fn new_pool(upstream: &Upstream, limits: Limits, registry: &Registry, stats: &WorkerStats) -> Rc<Pool> {
    let live = registry.upstream(upstream);
    Rc::new(Pool::new(live, stats.upstream(&upstream.name), limits).for_upstream())
}

impl Serving {
    /// Serves `snapshot`, with the pools of before whose upstream did not change but for its name, and with those
    /// of `warmed` that are of its upstreams. The others of before retire within the grace of `limits`.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        change: &Change<'_>,
        warmed: Vec<Rc<Pool>>,
        limits: Limits,
        registry: &Registry,
        stats: &WorkerStats,
    ) -> Self {
        let mut warmed: HashMap<Arc<Identity>, Rc<Pool>> = warmed
            .into_iter()
            .map(|pool| (Arc::clone(&pool.live.identity), pool))
            .collect();
        let pools = snapshot
            .upstreams
            .iter()
            .zip(&change.kept)
            .map(|(upstream, kept)| match kept {
                Some(Used { pool, name }) => {
                    pool.set_limits(limits);
                    if **name != upstream.name {
                        registry.rename(&pool.live, &upstream.name);
                        pool.rename(&stats.upstream(&upstream.name));
                    }
                    OnceCell::from(Rc::clone(pool))
                }
                None if warmed.is_empty() => OnceCell::new(),
                None => warmed
                    .remove(&upstream.identity)
                    .map_or_else(OnceCell::new, OnceCell::from),
            })
            .collect();
        change.gone.iter().for_each(|used| used.pool.retire());
        // A request may have made another of the same upstream meanwhile.
        warmed.values().for_each(|pool| pool.retire());
        Self {
            snapshot,
            pools,
            limits,
            targets: RefCell::default(),
        }
    }

    fn used(&self) -> impl Iterator<Item = (*const Identity, Used<'_>)> {
        let named = self.pools.iter().zip(&self.snapshot.upstreams);
        named.filter_map(|(pool, upstream)| {
            let (pool, name) = (pool.get()?, &upstream.name);
            Some((Arc::as_ptr(&upstream.identity), Used { pool, name }))
        })
    }

    /// Pools that were used.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.pools.iter().filter_map(OnceCell::get)
    }

    /// The pool of an upstream.
    pub(crate) fn pool(&self, index: UpstreamIndex, registry: &Registry, stats: &WorkerStats) -> &Rc<Pool> {
        self.pools[index.0 as usize]
            .get_or_init(|| new_pool(self.snapshot.upstream(index), self.limits, registry, stats))
    }

    /// What belongs to a target of this snapshot.
    pub(crate) fn target(&self, target: &Target, stats: &WorkerStats) -> Rc<LiveTarget> {
        let key = std::ptr::from_ref(target).addr();
        let mut targets = self.targets.borrow_mut();
        Rc::clone(targets.entry(key).or_insert_with(|| {
            let timeout = match &target.action {
                Action::Forward(forward) => forward.timeout,
                Action::Unresolved(_) => None,
            };
            let milliseconds = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            Rc::new(LiveTarget {
                codes: stats.mapping(&target.label),
                expected_timeout: milliseconds.map(HeaderValue::from),
            })
        }))
    }

    /// The listener on a port, if it still exists.
    pub(crate) fn listener(&self, port: u16) -> Option<&Arc<Listener>> {
        let at = self
            .snapshot
            .listeners
            .binary_search_by_key(&port, |listener| listener.port)
            .ok()?;
        self.snapshot.listeners.get(at)
    }
}
