//! One request and its answer, from the first byte to the last: what is recorded of it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_model::{Failure, Reason, Target};

use crate::access_log::Entry;
use crate::body::Broken;
use crate::client::connection::{Client, Tunnel};
use crate::counter::Codes;
use crate::failure::{ProxyError, is_protocol_error, words};
use crate::serving::LiveTarget;
use crate::upstream::pool::{Lease, Pool};
use crate::worker::Worker;

/// Recorded when dropped, so that no way out of the request path is forgotten.
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    client: Rc<Client>,
    pub(crate) started: Instant,
    pub(crate) status: u16,
    /// Responses of the Mapping; none before a route was found.
    mapping: Option<Arc<Codes>>,
    /// The upstream that answered or failed.
    upstream: Option<Rc<Pool>>,
    pub(crate) bytes_in: Option<Rc<Cell<u64>>>,
    pub(crate) bytes_out: u64,
    /// The answer reached its end.
    completed: bool,
    flags: &'static str,
    failure: Option<Failure>,
    /// What only the access log wants; absent where there is none.
    pub(crate) entry: Option<Box<Entry>>,
}

impl Exchange {
    pub(crate) fn begin(worker: &Rc<Worker>, client: &Rc<Client>) -> Box<Self> {
        client.begin_request();
        Box::new(Self {
            worker: Rc::clone(worker),
            client: Rc::clone(client),
            started: Instant::now(),
            status: 0,
            mapping: None,
            upstream: None,
            bytes_in: None,
            bytes_out: 0,
            completed: false,
            flags: "",
            failure: None,
            entry: None,
        })
    }

    /// A target was found.
    pub(crate) fn mapped(&mut self, target: &Target, live: &LiveTarget) {
        self.mapping = Some(Arc::clone(&live.codes));
        if let Some(entry) = &mut self.entry {
            entry.mapping = Some(Arc::clone(&target.label));
        }
    }

    /// It sends to this upstream.
    pub(crate) fn sent_to(&mut self, pool: &Rc<Pool>, name: &Arc<str>) {
        self.upstream = Some(Rc::clone(pool));
        if let Some(entry) = &mut self.entry {
            entry.upstream = Some(Arc::clone(name));
        }
    }

    /// The answer reached its end.
    pub(crate) fn complete(mut self) {
        self.completed = true;
    }

    /// The answer is the gateway's own, for this reason.
    pub(crate) fn failed(&mut self, error: &ProxyError) {
        self.flags = error.failure.reason.flag();
        self.failure = Some(error.failure.clone());
        if let Some(pool) = &self.upstream {
            pool.live.count_failure(error.failure.reason);
        }
    }

    /// The time was over before the response was.
    pub(crate) fn timed_out(self) {
        let error = ProxyError::timeout(self.started.elapsed());
        self.ended_by(&error);
    }

    /// The answer had begun, and cannot be completed for this reason.
    pub(crate) fn ended_by(mut self, error: &ProxyError) {
        self.completed = true;
        self.failed(error);
    }

    /// The request breaks the rules or the limits of HTTP, so it goes nowhere.
    pub(crate) fn refused(&mut self, message: String) {
        // DPE: an error of the downstream's protocol, as Envoy's users know it.
        self.flags = "DPE";
        if let Some(entry) = &mut self.entry {
            entry.message = message;
        }
    }

    /// The client broke off its own request: that is nobody's failure but its own.
    pub(crate) fn client_broke_off(&mut self, error: ProxyError) {
        self.flags = "DC";
        self.upstream = None;
        if let Some(entry) = &mut self.entry {
            entry.message = error.failure.message;
        }
    }

    /// The client was too slow: that is nobody's failure but its own.
    pub(crate) fn client_was_slow(&mut self, error: ProxyError) {
        self.client_broke_off(error);
        // SI: a stream that stood still, as Envoy's users know it.
        self.flags = "SI";
    }

    /// The upstream's response cannot be read to its end.
    pub(crate) fn cut_short(mut self, lease: Option<&Lease>, broken: &Broken) {
        if let Some(lease) = lease
            && (lease.cause().is_some() || is_protocol_error(broken))
        {
            return self.ended_by(&ProxyError::broken_body(lease, broken));
        }
        self.completed = true;
        self.flags = Reason::ResetBeforeResponse.flag();
        if let Some(entry) = &mut self.entry {
            entry.message = format!("the upstream broke off its response: {}", words(broken));
        }
    }

    /// Keeps a drain waiting for the connection that this exchange has become.
    pub(crate) fn tunnel(&self) -> Tunnel {
        Tunnel::new(&self.worker)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// From the start of the request.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.client.end_request(&self.worker);
        if !self.completed && self.status == 0 && self.failure.is_none() {
            self.client.broke_off(&self.worker);
        }
        let duration = self.elapsed();
        let stats = &self.worker.stats;
        stats.durations.add(duration);
        self.mapping.as_ref().unwrap_or(&stats.unmatched).add(self.status);
        if let Some(pool) = &self.upstream {
            pool.count(self.status);
        }
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        entry.status = self.status;
        entry.duration = duration;
        entry.bytes_in = self.bytes_in.as_ref().map_or(0, |count| count.get());
        entry.bytes_out = self.bytes_out;
        // DC: the client went away first, as Envoy's users know it.
        entry.flags = if self.flags.is_empty() && !self.completed {
            "DC"
        } else {
            self.flags
        };
        if let Some(failure) = self.failure.take() {
            entry.reason = Some(failure.reason);
            entry.message = failure.message;
        }
        self.worker.log(&entry);
    }
}
