//! A snapshot as one worker serves it: with the pools that belong to its upstreams.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use nuncio_model::{Action, Identity, Listener, Snapshot, Target, UpstreamIndex};

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

impl Serving {
    /// Serves `snapshot`, with the pools of `before` whose upstream did not change but for its name. The
    /// others retire within the grace of `limits`.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        before: Option<&Self>,
        limits: Limits,
        registry: &Registry,
        stats: &WorkerStats,
    ) -> Self {
        let mut known: HashMap<&Arc<Identity>, (&Rc<Pool>, &Arc<str>)> = HashMap::new();
        if let Some(before) = before {
            let named = before.pools.iter().zip(&before.snapshot.upstreams);
            let used = named.filter_map(|(pool, upstream)| Some((pool.get()?, &upstream.name)));
            known.extend(used.map(|(pool, name)| (&pool.live.identity, (pool, name))));
        }
        let pools = snapshot
            .upstreams
            .iter()
            .map(|upstream| match known.remove(&upstream.identity) {
                Some((pool, name)) => {
                    pool.set_limits(limits);
                    if *name != upstream.name {
                        registry.rename(&pool.live, &upstream.name);
                        pool.rename(&stats.upstream(&upstream.name));
                    }
                    OnceCell::from(Rc::clone(pool))
                }
                None => OnceCell::new(),
            })
            .collect();
        known.values().for_each(|(pool, _)| pool.retire());
        Self {
            snapshot,
            pools,
            limits,
            targets: RefCell::default(),
        }
    }

    /// Pools that were used.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.pools.iter().filter_map(OnceCell::get)
    }

    /// The pool of an upstream.
    pub(crate) fn pool(&self, index: UpstreamIndex, registry: &Registry, stats: &WorkerStats) -> &Rc<Pool> {
        self.pools[index.0 as usize].get_or_init(|| {
            let upstream = self.snapshot.upstream(index);
            let live = registry.upstream(upstream);
            let pool = Pool::new(live, stats.upstream(&upstream.name), self.limits);
            Rc::new(pool.for_upstream())
        })
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
