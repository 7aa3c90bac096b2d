//! What workers count, and how a scrape reads it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::client::offence::Offence;
use crate::counter::{BUCKETS_US, Codes, Counter, Durations};
use crate::upstream::live::lock;

/// The counters of one worker.
#[derive(Default)]
pub(crate) struct WorkerStats {
    mappings: Mutex<HashMap<Arc<str>, Arc<Codes>>>,
    upstreams: Mutex<HashMap<Arc<str>, Arc<Codes>>>,
    /// Requests that no Mapping matched.
    pub(crate) unmatched: Arc<Codes>,
    pub(crate) durations: Durations,
    /// Connections that ended because of what their clients did.
    pub(crate) offences: [Counter; Offence::ALL.len()],
}

impl WorkerStats {
    pub(crate) fn count_offence(&self, offence: Offence) {
        let at = Offence::ALL.iter().position(|one| *one == offence);
        at.into_iter().for_each(|at| self.offences[at].add(1));
    }

    /// Response counters of a Mapping. Slow: keep what it returns.
    pub(crate) fn mapping(&self, label: &Arc<str>) -> Arc<Codes> {
        Arc::clone(lock(&self.mappings).entry(Arc::clone(label)).or_default())
    }

    /// Forgets what nobody counts any more and is not among what is configured. Says whether something is
    /// still counted that is not.
    pub(crate) fn keep(&self, mappings: &HashSet<&str>, upstreams: &HashSet<&str>) -> bool {
        let keep = |counted: &Mutex<HashMap<Arc<str>, Arc<Codes>>>, configured: &HashSet<&str>| {
            let mut left = false;
            lock(counted).retain(|name, codes| {
                let current = configured.contains(&**name);
                let used = Arc::strong_count(codes) > 1;
                left |= used && !current;
                current || used
            });
            left
        };
        let mappings = keep(&self.mappings, mappings);
        keep(&self.upstreams, upstreams) || mappings
    }

    /// Response counters of an upstream. Slow: keep what it returns.
    pub(crate) fn upstream(&self, name: &Arc<str>) -> Arc<Codes> {
        Arc::clone(lock(&self.upstreams).entry(Arc::clone(name)).or_default())
    }
}

/// The counters of all workers, added up.
#[derive(Default)]
pub(crate) struct Totals {
    /// By Mapping and code; the empty label holds requests that no Mapping matched.
    pub(crate) mappings: BTreeMap<(Arc<str>, u16), u64>,
    pub(crate) upstreams: BTreeMap<(Arc<str>, u16), u64>,
    pub(crate) durations: ([u64; BUCKETS_US.len() + 1], f64),
    /// In the order of [`Offence::ALL`].
    pub(crate) offences: [u64; Offence::ALL.len()],
}

impl Totals {
    pub(crate) fn of(workers: &[Arc<WorkerStats>]) -> Self {
        let mut totals = Self::default();
        let none: Arc<str> = "".into();
        for worker in workers {
            add(&mut totals.mappings, &none, &worker.unmatched);
            for (label, codes) in &*lock(&worker.mappings) {
                add(&mut totals.mappings, label, codes);
            }
            for (name, codes) in &*lock(&worker.upstreams) {
                add(&mut totals.upstreams, name, codes);
            }
            worker.durations.add_to(&mut totals.durations);
            let offences = totals.offences.iter_mut().zip(&worker.offences);
            offences.for_each(|(total, count)| *total += count.get());
        }
        totals
    }
}

fn add(sums: &mut BTreeMap<(Arc<str>, u16), u64>, label: &Arc<str>, codes: &Codes) {
    for (code, count) in codes.counts() {
        *sums.entry((Arc::clone(label), code)).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_configured_nor_used_is_forgotten() {
        let stats = WorkerStats::default();
        let name = |text: &str| Arc::<str>::from(text);
        stats.mapping(&name("configured")).add(200);
        stats.mapping(&name("gone")).add(200);
        let used = stats.mapping(&name("used"));
        used.add(200);
        let configured = HashSet::from(["configured"]);
        assert!(stats.keep(&configured, &HashSet::new()), "one is still used");
        let left = |stats: &WorkerStats| {
            let mut left: Vec<_> = lock(&stats.mappings).keys().map(ToString::to_string).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&stats), ["configured", "used"]);
        drop(used);
        assert!(!stats.keep(&configured, &HashSet::new()));
        assert_eq!(left(&stats), ["configured"]);
    }
}
