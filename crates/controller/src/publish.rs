//! Where new configurations go, and what the log says of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use nuncio_compile::Output;
use nuncio_model::{EndpointTable, Problem, Severity, Snapshot};
use tokio::sync::watch;

/// Where new configurations go.
#[derive(Debug)]
pub struct Publisher {
    /// Everything but addresses; none before the first.
    pub snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// Addresses of Services.
    pub endpoints: watch::Sender<Arc<EndpointTable>>,
}

/// Publishes what is new and nothing else.
#[derive(Debug)]
pub(crate) struct Publishing {
    publisher: Publisher,
    revision: u64,
}

/// How many objects or files there are, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    Files(usize),
    Objects(usize),
}

impl Publishing {
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            revision: 0,
        }
    }

    /// Number of the latest snapshot; 0 before the first.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// What is served now.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.publisher.snapshot.borrow().clone()
    }

    pub(crate) fn endpoints(&self, table: EndpointTable) {
        self.publisher.endpoints.send_if_modified(|current| {
            let is_new = **current != table;
            if is_new {
                *current = Arc::new(table);
            }
            is_new
        });
    }

    /// Publishes a snapshot and its addresses. While the old snapshot still serves its addresses stay, so
    /// that a request which it routes finds them.
    pub(crate) fn all(&mut self, output: Output, extent: Extent, begun: Instant) {
        if !self.is_new(&output.snapshot) {
            self.endpoints(output.endpoints);
            return;
        }
        let both = joined(&self.publisher.endpoints.borrow(), &output.endpoints);
        self.endpoints(both);
        self.snapshot(output.snapshot, extent, begun);
        self.endpoints(output.endpoints);
    }

    /// Publishes a snapshot whose addresses have a way of their own; says whether it was new.
    pub(crate) fn snapshot(&mut self, snapshot: Snapshot, extent: Extent, begun: Instant) -> bool {
        if !self.is_new(&snapshot) {
            return false;
        }
        let current = self.current();
        let snapshot = Arc::new(snapshot);
        self.revision = snapshot.revision;
        report(current.as_deref(), &snapshot, extent, begun);
        self.publisher.snapshot.send_replace(Some(snapshot));
        true
    }

    fn is_new(&self, snapshot: &Snapshot) -> bool {
        let current = self.publisher.snapshot.borrow();
        !current
            .as_deref()
            .is_some_and(|current| says_the_same(current, snapshot))
    }
}

/// Whether two snapshots are equal but for their revision and their making.
pub(crate) fn says_the_same(a: &Snapshot, b: &Snapshot) -> bool {
    let Snapshot {
        revision: _,
        listeners,
        guards,
        upstreams,
        certificates,
        problems,
        settings,
        compiled: _,
    } = a;
    *listeners == b.listeners
        && *guards == b.guards
        && *upstreams == b.upstreams
        && *certificates == b.certificates
        && *problems == b.problems
        && *settings == b.settings
}

/// All Services of both tables; where both know one, what the new one says.
fn joined(old: &EndpointTable, new: &EndpointTable) -> EndpointTable {
    let mut services = old.services.clone();
    services.extend(
        new.services
            .iter()
            .map(|(key, addresses)| (key.clone(), Arc::clone(addresses))),
    );
    EndpointTable { services }
}

/// Problems that are logged one by one; the rest is a number.
const LOGGED: usize = 20;

/// Says what was published, and each problem that was not there before.
fn report(before: Option<&Snapshot>, now: &Snapshot, extent: Extent, begun: Instant) {
    let known: HashSet<&str> = before
        .iter()
        .flat_map(|s| s.problems.iter())
        .map(|p| p.message.as_str())
        .collect();
    let fresh = now
        .problems
        .iter()
        .filter(|problem| !known.contains(problem.message.as_str()));
    let worth_a_line = fresh.filter(|problem| problem.severity > Severity::Notice);
    for problem in worth_a_line.take(LOGGED) {
        log(problem);
    }
    let count = |severity| {
        now.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    };
    let (files, objects) = match extent {
        Extent::Files(files) => (Some(files), None),
        Extent::Objects(objects) => (None, Some(objects)),
    };
    tracing::info!(
        revision = now.revision,
        files,
        objects,
        listeners = now.listeners.len(),
        upstreams = now.upstreams.len(),
        errors = count(Severity::Error),
        warnings = count(Severity::Warning),
        notices = count(Severity::Notice),
        ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "configuration published"
    );
}

fn log(problem: &Problem) {
    let place = problem
        .place
        .as_ref()
        .map(|place| format!("{}:{}:{}", place.file, place.line, place.column));
    let object = problem.object.as_ref().map(ToString::to_string);
    let (reason, field) = (&*problem.reason, problem.field.as_deref());
    if problem.severity == Severity::Error {
        tracing::error!(reason, object, field, place, "{}", problem.message);
    } else {
        tracing::warn!(reason, object, field, place, "{}", problem.message);
    }
}
