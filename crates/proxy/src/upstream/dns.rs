//! Names to addresses through DNS, with the last good answer kept while DNS fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use nuncio_model::{Failure, Reason};
use tokio::time::timeout_at;

/// Answers are used at least this long, however short their TTL.
const MIN_TTL: Duration = Duration::from_secs(1);
/// And at most this long.
const MAX_TTL: Duration = Duration::from_secs(60);
/// A failed refresh is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Most names that are remembered.
const MAX_NAMES: usize = 65_536;

/// A worker's resolver.
pub(crate) struct Dns {
    resolver: RefCell<Option<TokioResolver>>,
    answers: RefCell<HashMap<Arc<str>, Answer>>,
}

#[derive(Clone)]
struct Answer {
    addresses: Rc<[IpAddr]>,
    fresh_until: Instant,
    refreshing: bool,
}

impl Dns {
    pub(crate) fn new() -> Self {
        Self {
            resolver: RefCell::default(),
            answers: RefCell::default(),
        }
    }

    /// Addresses of `name`. A known name answers at once and is refreshed behind the request's back.
    pub(crate) async fn resolve(
        self: &Rc<Self>,
        name: &Arc<str>,
        deadline: Instant,
    ) -> Result<Rc<[IpAddr]>, Failure> {
        if let Some(addresses) = self.known(name) {
            return Ok(addresses);
        }
        match timeout_at(deadline.into(), self.lookup(name)).await {
            Ok(result) => result,
            Err(_) => Err(failed(name, "no answer in time")),
        }
    }

    fn known(self: &Rc<Self>, name: &Arc<str>) -> Option<Rc<[IpAddr]>> {
        let mut answers = self.answers.borrow_mut();
        let answer = answers.get_mut(name)?;
        if !answer.refreshing && answer.fresh_until <= Instant::now() {
            answer.refreshing = true;
            let (dns, name) = (Rc::clone(self), Arc::clone(name));
            tokio::task::spawn_local(async move { dns.refresh(&name).await });
        }
        Some(Rc::clone(&answer.addresses))
    }

    async fn refresh(&self, name: &Arc<str>) {
        if self.lookup(name).await.is_err()
            && let Some(answer) = self.answers.borrow_mut().get_mut(name)
        {
            answer.refreshing = false;
            answer.fresh_until = Instant::now() + RETRY;
        }
    }

    async fn lookup(&self, name: &Arc<str>) -> Result<Rc<[IpAddr]>, Failure> {
        let resolver = self.resolver().map_err(|error| failed(name, &error))?;
        let lookup = resolver
            .lookup_ip(&**name)
            .await
            .map_err(|error| failed(name, &error.to_string()))?;
        let now = Instant::now();
        let ttl = lookup
            .valid_until()
            .saturating_duration_since(now)
            .clamp(MIN_TTL, MAX_TTL);
        let addresses: Rc<[IpAddr]> = lookup.iter().collect();
        if addresses.is_empty() {
            return Err(failed(name, "the answer holds no address"));
        }
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= MAX_NAMES {
            answers.retain(|_, answer| answer.fresh_until > now);
        }
        let answer = Answer {
            addresses: Rc::clone(&addresses),
            fresh_until: now + ttl,
            refreshing: false,
        };
        answers.insert(Arc::clone(name), answer);
        Ok(addresses)
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        if let Some(resolver) = &*self.resolver.borrow() {
            return Ok(resolver.clone());
        }
        let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        *self.resolver.borrow_mut() = Some(resolver.clone());
        Ok(resolver)
    }
}

fn failed(name: &str, why: &str) -> Failure {
    Failure {
        reason: Reason::DnsFailed,
        message: format!("{name} does not resolve: {why}"),
        remedy: "check the host in spec.service, or give its address with --resolve".to_owned(),
    }
}
