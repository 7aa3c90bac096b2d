//! What was made of each Mapping, kept from one compile to the next (row G2): to read 10,000 Mappings is most of
//! the work of a compile, and an edit concerns one of them.
//!
//! A reading holds as long as the document, the options and the Module are the same and as long as everything that it
//! asked of TLSContexts and Services is answered as before, which is asked again each time. Each compile hands what
//! it used to the next, and no more.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::HashMap;
use nuncio_model::{Forward, ObjectRef, Problem, Route, Unresolved, Upstream, UpstreamIndex};

use super::Surroundings;
use super::conditions::Conditions;
use crate::context::Found;
use crate::endpoints::{self, Services};
use crate::module::Gateway;
use crate::object::Version;
use crate::problems::Problems;
use crate::resolvers::Finds;
use crate::upstreams::Candidate;
use crate::{Object, Options};

/// What a Mapping says, in its surroundings.
pub(crate) struct Reading {
    /// Up to the point at which it is known whether it has a route.
    pub(super) told: Vec<Problem>,
    /// None where there is nothing that could be matched.
    pub(super) routed: Option<Arc<Routed>>,
}

/// A Mapping that can be matched.
pub(crate) struct Routed {
    pub(crate) conditions: Conditions,
    pub(crate) connect_timeout: Duration,
    pub(crate) weight: Option<i64>,
    /// It has a policy of its own, not the Module's.
    pub(crate) has_retry_policy: bool,
    pub(crate) action: Result<Wanted, Unresolved>,
    /// About the action.
    pub(super) told: Vec<Problem>,
    pub(super) asked: Asked,
}

/// Where requests are to go.
pub(crate) struct Wanted {
    /// Its `upstream` is known only where all upstreams are.
    pub(crate) forward: Forward,
    pub(super) upstream: Candidate,
    /// The TLSContext that is used.
    pub(super) context: Option<ObjectRef>,
}

/// Questions and their answers.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) context: Option<AskedContext>,
    pub(super) service: Option<AskedService>,
    pub(super) resolver: Option<AskedResolver>,
}

pub(super) struct AskedResolver {
    pub(super) name: String,
    pub(super) found: Option<Finds>,
}

pub(super) struct AskedContext {
    pub(super) text: String,
    pub(super) found: Found,
    pub(super) told: Vec<Problem>,
}

pub(super) struct AskedService {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) is_meant: bool,
    pub(super) route: endpoints::Route,
}

impl Asked {
    fn is_answered_the_same(&self, object: &Object, around: &Surroundings<'_>) -> bool {
        let same_services = Arc::ptr_eq(&around.readings.services, around.services);
        let service = self.service.as_ref().is_none_or(|asked| {
            let route = || {
                around
                    .services
                    .route(&asked.namespace, &asked.name, asked.port, asked.is_meant)
            };
            same_services || route() == asked.route
        });
        let context = self.context.as_ref().is_none_or(|asked| {
            // Those that were usable without a word are so again where no context is another.
            let was_plain = asked.found.tls.is_ok() && !asked.found.stale && asked.told.is_empty();
            if was_plain && around.contexts.are_as_before() {
                return true;
            }
            let mut told = Problems::default();
            let found = around.contexts.look_up(object, &asked.text, &mut told);
            found.is(&asked.found) && told.found() == asked.told
        });
        let own = &object.reference.namespace;
        let resolver = self.resolver.as_ref().is_none_or(|asked| {
            let found = around.resolvers.find(&asked.name, own, &around.options.namespace);
            found == asked.found
        });
        service && context && resolver
    }
}

/// The readings of one compile, for the next.
#[derive(Clone, Default)]
pub(crate) struct Readings {
    /// None before the first compile.
    epoch: Option<Arc<Epoch>>,
    /// What questions about Services were answered from.
    services: Arc<Services>,
    /// In the order of loading.
    known: Arc<[Arc<Known>]>,
    /// Nothing was compiled under these options and this Module so far.
    is_first: bool,
}

/// What every Mapping depends on.
#[derive(PartialEq)]
struct Epoch {
    /// Without the time and the revision, which no Mapping knows.
    options: Options,
    gateway: Gateway,
}

/// A reading, and what became of it.
pub(crate) struct Known {
    mapping: ObjectRef,
    /// [`Object::order`]
    order: Box<str>,
    version: Version,
    pub(super) reading: Arc<Reading>,
    /// The upstream that it led to, and its position.
    pub(super) upstream: Option<(UpstreamIndex, Arc<Upstream>)>,
    /// Its route, where it shares it with no other Mapping.
    pub(super) route: Option<Arc<Route>>,
}

/// A Mapping that was read, before all routes and upstreams are known.
pub(crate) struct Kept<'a> {
    pub(super) object: &'a Object,
    pub(super) reading: Arc<Reading>,
    pub(super) upstream: Option<UpstreamIndex>,
    /// What it comes from, where it was read in an earlier compile.
    pub(super) before: Option<&'a Arc<Known>>,
}

impl Kept<'_> {
    /// The TLSContext that it uses.
    pub(crate) fn context(&self) -> Option<&ObjectRef> {
        let routed = self.reading.routed.as_ref().filter(|_| self.upstream.is_some())?;
        routed.context()
    }
}

impl Routed {
    fn context(&self) -> Option<&ObjectRef> {
        self.action.as_ref().ok()?.context.as_ref()
    }
}

/// The readings of the last compile, one after the other. Mappings come in the order in which they were read then, so
/// none is looked up.
#[derive(Default)]
pub(crate) struct InOrder<'a>(&'a [Arc<Known>]);

impl<'a> InOrder<'a> {
    /// The reading of a Mapping. Each is asked for once, in the order of loading.
    pub(super) fn next(&mut self, object: &Object) -> Option<&'a Arc<Known>> {
        while let Some((first, rest)) = self.0.split_first() {
            match (*first.order).cmp(object.order()) {
                Ordering::Less => self.0 = rest,
                Ordering::Equal => {
                    self.0 = rest;
                    if first.mapping == object.reference {
                        return Some(first);
                    }
                }
                Ordering::Greater => return None,
            }
        }
        None
    }
}

impl Known {
    /// Whether the Mapping says and means the same as then.
    pub(super) fn holds(&self, object: &Object, around: &Surroundings<'_>) -> bool {
        let asked = self.reading.routed.as_ref().map(|routed| &routed.asked);
        self.version.is_of(object) && asked.is_none_or(|asked| asked.is_answered_the_same(object, around))
    }

    /// The TLSContext that it used.
    fn context(&self) -> Option<&ObjectRef> {
        let routed = self.reading.routed.as_ref().filter(|_| self.upstream.is_some())?;
        routed.context()
    }

    fn is(&self, upstream: Option<&(UpstreamIndex, Arc<Upstream>)>, route: Option<&Arc<Route>>) -> bool {
        let same_upstream = match (&self.upstream, upstream) {
            (Some((a, known)), Some((b, now))) => a == b && Arc::ptr_eq(known, now),
            (None, None) => true,
            _ => false,
        };
        let same_route = match (&self.route, route) {
            (Some(known), Some(now)) => Arc::ptr_eq(known, now),
            (None, None) => true,
            _ => false,
        };
        same_upstream && same_route
    }
}

impl Epoch {
    fn of(options: &Options, gateway: &Gateway) -> Self {
        Self {
            options: Options {
                now: SystemTime::UNIX_EPOCH,
                revision: 0,
                ..options.clone()
            },
            gateway: gateway.clone(),
        }
    }
}

impl Readings {
    /// Those of `self` that may still hold under these options and this Module; none where these are others.
    pub(crate) fn under(&self, options: &Options, gateway: &Gateway) -> Self {
        let epoch = Epoch::of(options, gateway);
        match &self.epoch {
            Some(before) if **before == epoch => self.clone(),
            _ => Self {
                epoch: Some(Arc::new(epoch)),
                services: Arc::default(),
                known: Arc::default(),
                is_first: true,
            },
        }
    }

    /// Whether there are any, of the same options and the same Module.
    pub(crate) fn go_on(&self) -> bool {
        !self.is_first
    }

    /// All of them.
    pub(crate) fn in_order(&self) -> InOrder<'_> {
        InOrder(&self.known)
    }

    /// The TLSContext that a Mapping used.
    pub(crate) fn context_of(&self, mapping: &Object) -> Option<&ObjectRef> {
        let at = self
            .known
            .partition_point(|known| *known.order < *mapping.order());
        let alike = self.known.get(at..)?.iter();
        let mut alike = alike.take_while(|known| *known.order == *mapping.order());
        alike.find(|known| known.mapping == mapping.reference)?.context()
    }

    /// For the next compile. `routes` are by the position of the Mapping in `kept`.
    pub(crate) fn next(
        &self,
        kept: Vec<Kept<'_>>,
        mut routes: HashMap<usize, Arc<Route>>,
        upstreams: &[Arc<Upstream>],
        services: &Arc<Services>,
    ) -> Self {
        let known = kept.into_iter().enumerate().map(|(position, kept)| {
            let upstream = kept
                .upstream
                .and_then(|index| Some((index, Arc::clone(upstreams.get(index.0 as usize)?))));
            let route = routes.remove(&position);
            match kept.before {
                Some(before) if before.is(upstream.as_ref(), route.as_ref()) => Arc::clone(before),
                _ => Arc::new(Known {
                    mapping: kept.object.reference.clone(),
                    order: kept.object.order().into(),
                    version: Version::of(kept.object),
                    reading: kept.reading,
                    upstream,
                    route,
                }),
            }
        });
        Self {
            epoch: self.epoch.clone(),
            services: Arc::clone(services),
            known: known.collect(),
            is_first: false,
        }
    }
}
