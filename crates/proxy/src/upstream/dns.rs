//! Names to addresses through DNS, with the last good answer kept while DNS fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use nuncio_model::{Failure, Reason};
use tokio::time::timeout_at;

/// Most names that are remembered.
const MAX_NAMES: usize = 65_536;

/// How long answers are believed.
#[derive(Clone, Copy)]
struct Terms {
    /// Answers are used at least this long, however short their TTL; and so is the failure of a name that
    /// was never found, so that many requests for it are not as many lookups.
    min_ttl: Duration,
    /// And at most this long.
    max_ttl: Duration,
    /// A failed refresh is tried again after this.
    retry: Duration,
    /// For so long DNS must say that a name does not exist before its addresses are given up: a server that
    /// starts says so of names that it has not loaded yet. Of a server that gives no answer or an error
    /// they outlive any time.
    denied: Duration,
}

const TERMS: Terms = Terms {
    min_ttl: Duration::from_secs(1),
    max_ttl: Duration::from_secs(60),
    retry: Duration::from_secs(5),
    denied: Duration::from_secs(60),
};

type Addresses = Rc<[IpAddr]>;

/// A worker's resolver.
pub(crate) struct Dns {
    terms: Terms,
    resolver: RefCell<Option<TokioResolver>>,
    answers: RefCell<HashMap<Arc<str>, Answer>>,
}

struct Answer {
    found: Result<Addresses, Failure>,
    fresh_until: Instant,
    refreshing: bool,
    /// Since when DNS says that the name does not exist, though it had addresses before.
    denied_since: Option<Instant>,
}

/// Why there are no addresses.
struct Unanswered {
    failure: Failure,
    /// DNS says that there are none.
    denied: bool,
}

impl Dns {
    pub(crate) fn new() -> Self {
        Self::on_terms(TERMS)
    }

    fn on_terms(terms: Terms) -> Self {
        Self {
            terms,
            resolver: RefCell::default(),
            answers: RefCell::default(),
        }
    }

    /// Addresses of `name`. A known name answers at once and is refreshed behind the request's back.
    pub(crate) async fn resolve(
        self: &Rc<Self>,
        name: &Arc<str>,
        deadline: Instant,
    ) -> Result<Addresses, Failure> {
        if let Some(known) = self.known(name) {
            return known;
        }
        let found = timeout_at(deadline.into(), self.first(name)).await;
        found.unwrap_or_else(|_| Err(failed(name, "no answer in time")))
    }

    /// What is known of `name` without waiting. What is no longer fresh is refreshed behind the caller's back.
    pub(crate) fn known(self: &Rc<Self>, name: &Arc<str>) -> Option<Result<Addresses, Failure>> {
        let mut answers = self.answers.borrow_mut();
        let answer = answers.get_mut(name)?;
        let stale = answer.fresh_until <= Instant::now();
        if stale && answer.found.is_err() {
            return None;
        }
        if stale && !answer.refreshing {
            answer.refreshing = true;
            let (dns, name) = (Rc::clone(self), Arc::clone(name));
            tokio::task::spawn_local(async move { dns.refresh(&name).await });
        }
        Some(answer.found.clone())
    }

    /// Looks up a name of which nothing is known. Many who do so at once are one question to DNS, which is
    /// the resolver's doing.
    async fn first(&self, name: &Arc<str>) -> Result<Addresses, Failure> {
        let (found, ttl) = match self.lookup(name).await {
            Ok((addresses, ttl)) => (Ok(addresses), ttl),
            Err(unanswered) => (Err(unanswered.failure), self.terms.min_ttl),
        };
        self.keep(name, found.clone(), ttl);
        found
    }

    async fn refresh(&self, name: &Arc<str>) {
        match self.lookup(name).await {
            Ok((addresses, ttl)) => self.keep(name, Ok(addresses), ttl),
            Err(unanswered) => self.outlive(name, unanswered),
        }
    }

    /// Goes on with the last good addresses, if DNS does not insist that there are none.
    fn outlive(&self, name: &Arc<str>, unanswered: Unanswered) {
        let now = Instant::now();
        let mut answers = self.answers.borrow_mut();
        let Some(answer) = answers.get_mut(name) else {
            return;
        };
        answer.refreshing = false;
        answer.fresh_until = now + self.terms.retry;
        if unanswered.denied {
            let since = *answer.denied_since.get_or_insert(now);
            if now.duration_since(since) >= self.terms.denied {
                answer.found = Err(unanswered.failure);
                answer.denied_since = None;
            }
        }
    }

    fn keep(&self, name: &Arc<str>, found: Result<Addresses, Failure>, ttl: Duration) {
        let now = Instant::now();
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= MAX_NAMES {
            answers.retain(|_, answer| answer.fresh_until > now);
        }
        let answer = Answer {
            found,
            fresh_until: now + ttl,
            refreshing: false,
            denied_since: None,
        };
        answers.insert(Arc::clone(name), answer);
    }

    /// Asks DNS. The addresses are good for the duration.
    async fn lookup(&self, name: &str) -> Result<(Addresses, Duration), Unanswered> {
        let resolver = self
            .resolver()
            .map_err(|error| Unanswered::without_answer(name, &error))?;
        let lookup = resolver
            .lookup_ip(name)
            .await
            .map_err(|error| Unanswered::because(name, &error))?;
        let ttl = lookup
            .valid_until()
            .saturating_duration_since(Instant::now())
            .clamp(self.terms.min_ttl, self.terms.max_ttl);
        let addresses: Addresses = lookup.iter().collect();
        if addresses.is_empty() {
            return Err(Unanswered {
                failure: failed(name, "the answer holds no address"),
                denied: true,
            });
        }
        Ok((addresses, ttl))
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

impl Unanswered {
    fn because(name: &str, error: &NetError) -> Self {
        Self {
            failure: failed(name, &error.to_string()),
            denied: error.is_no_records_found(),
        }
    }

    fn without_answer(name: &str, why: &str) -> Self {
        Self {
            failure: failed(name, why),
            denied: false,
        }
    }
}

fn failed(name: &str, why: &str) -> Failure {
    Failure {
        reason: Reason::DnsFailed,
        message: format!("{name} does not resolve: {why}"),
        remedy: "check the host in spec.service, or give its address with --resolve".to_owned(),
    }
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
