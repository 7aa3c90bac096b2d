//! Everything that is counted, in Prometheus' text format. Labels come from configuration and
//! closed sets only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{Severity, Snapshot, Upstream, VerifyMode};
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::client::offence::Offence;
use crate::counter::BUCKETS_US;
use crate::stats::Totals;
use crate::upstream::live::{LiveUpstream, Registry, SharedCounts, lock};

type Label<'a> = (&'static str, &'a str);

/// Families in the order in which they are printed.
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn counters<'a>(&mut self, name: &str, help: &str, samples: impl Iterator<Item = (Vec<Label<'a>>, u64)>) {
        let metrics = samples.map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(float(value));
            let mut metric = metric(&labels);
            metric.set_counter(counter);
            metric
        });
        self.add(name, help, MetricType::COUNTER, metrics.collect());
    }

    fn gauges<'a>(&mut self, name: &str, help: &str, samples: impl Iterator<Item = (Vec<Label<'a>>, f64)>) {
        let metrics = samples.map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = metric(&labels);
            metric.set_gauge(gauge);
            metric
        });
        self.add(name, help, MetricType::GAUGE, metrics.collect());
    }

    fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (Vec<Label<'a>>, ([u64; BUCKETS_US.len() + 1], f64))>,
    ) {
        let metrics = samples.map(|(labels, (counts, seconds))| {
            let mut metric = metric(&labels);
            metric.set_histogram(histogram(&counts, seconds));
            metric
        });
        self.add(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }
}

fn metric(labels: &[Label<'_>]) -> Metric {
    Metric::from_label(
        labels
            .iter()
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value((*value).to_owned());
                pair
            })
            .collect(),
    )
}

fn histogram(counts: &[u64; BUCKETS_US.len() + 1], seconds: f64) -> Histogram {
    let mut cumulative = 0;
    let buckets = BUCKETS_US.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(float(*bound) / 1e6);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(seconds);
    histogram
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
fn float(n: u64) -> f64 {
    n as f64
}

/// An upstream of the snapshot of which something was counted.
struct Row<'a> {
    name: &'a str,
    speaks_tls: bool,
    counts: SharedCounts,
    /// None until it is used for the first time since it became what it is.
    live: Option<Arc<LiveUpstream>>,
}

impl<'a> Row<'a> {
    fn of(upstream: &'a Upstream, registry: &Registry) -> Option<Self> {
        Some(Self {
            name: &upstream.name,
            speaks_tls: upstream.identity.tls.is_some(),
            counts: registry.counts(upstream)?,
            live: registry.get(&upstream.identity),
        })
    }
}

/// The page for a snapshot and what was counted so far.
pub(crate) fn page(
    snapshot: &Snapshot,
    registry: &Registry,
    totals: &Totals,
    live_problems: [(Severity, usize); 2],
    (lost_log_lines, shed_connections): (u64, u64),
) -> String {
    let mut page = Page { families: Vec::new() };
    requests(&mut page, totals);
    let rows: Vec<Row<'_>> = snapshot
        .upstreams
        .iter()
        .filter_map(|upstream| Row::of(upstream, registry))
        .collect();
    upstreams(&mut page, snapshot, totals, &rows);
    handshakes(&mut page, &rows);
    certificates(&mut page, snapshot);
    configuration(&mut page, snapshot, live_problems);
    page.counters(
        "nuncio_access_log_lost_total",
        "Access log lines that were not written, since the reader of standard output stalled or was gone, or its disk was full.",
        [(Vec::new(), lost_log_lines)].into_iter(),
    );
    page.counters(
        "nuncio_client_connections_shed_total",
        "Client connections that were closed although they were within their limits, for want of descriptors.",
        [(Vec::new(), shed_connections)].into_iter(),
    );
    // Writing into a string cannot fail once names are valid, and they are all given here.
    TextEncoder::new()
        .encode_to_string(&page.families)
        .unwrap_or_default()
}

fn requests(page: &mut Page, totals: &Totals) {
    let codes = codes(&totals.mappings);
    page.counters(
        "nuncio_requests_total",
        "Answered requests by Mapping (empty where none matched) and status code.",
        codes
            .iter()
            .map(|(label, code, n)| (vec![("mapping", *label), ("code", code)], *n)),
    );
    page.histograms(
        "nuncio_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        [(Vec::new(), totals.durations)].into_iter(),
    );
    let offences = Offence::ALL.iter().zip(totals.offences);
    page.counters(
        "nuncio_client_protocol_errors_total",
        "Connections of clients that ended because of what the client sent, by what it was.",
        offences
            .filter(|(_, n)| *n > 0)
            .map(|(offence, n)| (vec![("cause", offence.label())], n)),
    );
}

fn codes(sums: &BTreeMap<(Arc<str>, u16), u64>) -> Vec<(&str, String, u64)> {
    let code = |code: u16| {
        if code == 0 {
            "other".to_owned()
        } else {
            code.to_string()
        }
    };
    sums.iter()
        .map(|((label, number), n)| (&**label, code(*number), *n))
        .collect()
}

fn upstreams(page: &mut Page, snapshot: &Snapshot, totals: &Totals, rows: &[Row<'_>]) {
    let codes = codes(&totals.upstreams);
    page.counters(
        "nuncio_upstream_requests_total",
        "Answers by upstream and status code, those of the gateway for a failed upstream included.",
        codes
            .iter()
            .map(|(label, code, n)| (vec![("upstream", *label), ("code", code)], *n)),
    );
    let failures = rows.iter().flat_map(|row| {
        let failures = lock(&row.counts).failures.clone();
        failures
            .into_iter()
            .map(|(reason, n)| (vec![("upstream", row.name), ("reason", reason.code())], n))
    });
    page.counters(
        "nuncio_upstream_failures_total",
        "Failures by upstream and reason.",
        failures,
    );
    let connections = rows.iter().flat_map(|row| {
        let (active, idle) = row.live.as_ref().map_or((0, 0), |live| live.connections());
        [("active", active), ("idle", idle)]
            .map(|(state, n)| (vec![("upstream", row.name), ("state", state)], float(n)))
    });
    page.gauges(
        "nuncio_upstream_connections",
        "Open connections by upstream and state.",
        connections,
    );
    let modes = snapshot.upstreams.iter().filter_map(|upstream| {
        let mode: VerifyMode = upstream.identity.tls.as_ref()?.verify.mode;
        Some((vec![("upstream", &*upstream.name), ("mode", mode.as_str())], 1.0))
    });
    page.gauges(
        "nuncio_upstream_verify_mode",
        "1 on the verification mode in force.",
        modes,
    );
}

fn handshakes(page: &mut Page, rows: &[Row<'_>]) {
    let counts = rows.iter().flat_map(|row| {
        let mut counts: Vec<_> = lock(&row.counts)
            .handshakes
            .iter()
            .map(|(key, n)| (*key, *n))
            .collect();
        counts.sort_unstable_by_key(|(key, _)| *key);
        counts.into_iter().map(|(key, n)| {
            let resumed = if key.resumed { "true" } else { "false" };
            let labels = vec![
                ("upstream", row.name),
                ("outcome", key.outcome),
                ("version", key.version),
                ("resumed", resumed),
            ];
            (labels, n)
        })
    });
    page.counters(
        "nuncio_upstream_handshakes_total",
        "TLS handshakes by upstream, outcome, version and whether a session was resumed.",
        counts,
    );
    unusual_handshakes(page, rows);
    let seconds = rows
        .iter()
        .filter(|row| row.speaks_tls)
        .map(|row| (vec![("upstream", row.name)], lock(&row.counts).handshake_seconds));
    page.histograms(
        "nuncio_upstream_handshake_seconds",
        "Duration of TLS handshakes.",
        seconds,
    );
    let would_fail = rows.iter().flat_map(|row| {
        let would_fail = lock(&row.counts).would_fail.clone();
        would_fail
            .into_iter()
            .map(|(reason, n)| (vec![("upstream", row.name), ("reason", reason.code())], n))
    });
    page.counters(
        "nuncio_upstream_verify_would_fail_total",
        "Handshakes that were accepted and that the mode full would have refused, by reason.",
        would_fail,
    );
    let ends = rows.iter().filter_map(|row| {
        let end = row.live.as_ref()?.peer_not_after()?;
        Some((vec![("upstream", row.name)], seconds_of(end)))
    });
    page.gauges(
        "nuncio_upstream_peer_not_after_seconds",
        "When the first certificate that the upstream's endpoints showed last expires, in seconds since 1970.",
        ends,
    );
}

/// Those that took another hello than the first, and those that were not begun.
fn unusual_handshakes(page: &mut Page, rows: &[Row<'_>]) {
    let retries = rows.iter().map(|row| {
        let retries = lock(&row.counts).hello_retries;
        (vec![("upstream", row.name)], retries)
    });
    page.counters(
        "nuncio_upstream_hello_retries_total",
        "TLS handshakes that took two hellos, since the upstream wanted another key-exchange group.",
        retries.filter(|(_, retries)| *retries > 0),
    );
    let small = rows.iter().map(|row| {
        let small = lock(&row.counts).small_hellos;
        (vec![("upstream", row.name)], small)
    });
    page.counters(
        "nuncio_upstream_small_hellos_total",
        "TLS handshakes without post-quantum key exchange, since the upstream does not answer the hello that offers it.",
        small.filter(|(_, small)| *small > 0),
    );
    let avoided = rows.iter().flat_map(|row| {
        let avoided = lock(&row.counts).avoided.clone();
        avoided
            .into_iter()
            .map(|(reason, n)| (vec![("upstream", row.name), ("reason", reason.code())], n))
    });
    page.counters(
        "nuncio_upstream_handshakes_avoided_total",
        "TLS handshakes that were not begun, since one failed shortly before for a reason that repeats.",
        avoided,
    );
}

fn certificates(page: &mut Page, snapshot: &Snapshot) {
    // Several certificates of one Secret and role: the first to expire matters.
    let mut ends: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
    for certificate in &snapshot.certificates {
        let role = match certificate.role {
            nuncio_model::CertificateRole::Client => "client",
            nuncio_model::CertificateRole::Server => "server",
            nuncio_model::CertificateRole::Ca => "ca",
            nuncio_model::CertificateRole::Peer => "peer",
        };
        let end = ends
            .entry((&certificate.namespace, &certificate.secret, role))
            .or_insert(i64::MAX);
        *end = (*end).min(certificate.info.not_after_seconds);
    }
    let samples = ends.into_iter().map(|((namespace, secret, role), end)| {
        (
            vec![("namespace", namespace), ("secret", secret), ("role", role)],
            seconds_of(end),
        )
    });
    page.gauges(
        "nuncio_certificate_not_after_seconds",
        "When a loaded certificate expires, in seconds since 1970.",
        samples,
    );
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
fn seconds_of(time: i64) -> f64 {
    time as f64
}

fn configuration(page: &mut Page, snapshot: &Snapshot, live_problems: [(Severity, usize); 2]) {
    let count = |severity: Severity| {
        let compiled = snapshot
            .problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count();
        let live = live_problems.iter().filter(|(of, _)| *of == severity);
        compiled + live.map(|(_, count)| count).sum::<usize>()
    };
    let problems = [Severity::Error, Severity::Warning, Severity::Notice].map(|severity| {
        (
            vec![("severity", severity.as_str())],
            float(count(severity) as u64),
        )
    });
    page.gauges(
        "nuncio_config_problems",
        "Problems by severity: those of the configuration, and those that only running shows.",
        problems.into_iter(),
    );
    page.gauges(
        "nuncio_config_revision",
        "Revision of the configuration that is served.",
        [(Vec::new(), float(snapshot.revision))].into_iter(),
    );
    let compiled = snapshot.compiled.as_ref();
    page.gauges(
        "nuncio_config_compile_seconds",
        "How long the configuration that is served took to compile.",
        compiled
            .map(|compiled| (Vec::new(), compiled.took.as_secs_f64()))
            .into_iter(),
    );
    let at = compiled.and_then(|compiled| compiled.at.duration_since(SystemTime::UNIX_EPOCH).ok());
    page.gauges(
        "nuncio_config_last_success_seconds",
        "When the configuration that is served was compiled, in seconds since 1970.",
        at.map(|at| (Vec::new(), at.as_secs_f64())).into_iter(),
    );
}
