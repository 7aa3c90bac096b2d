//! What a large cluster costs: measured against aims, and so not among the tests that run each time.
//!
//! ```text
//! make build
//! NUNCIO_TEST_PROGRAM=$PWD/target/release/nuncio cargo test --locked -p nuncio --test program -- \
//!     --ignored --nocapture --test-threads 1 cluster::scale
//! ```
//!
//! `NUNCIO_SCALE_MAPPINGS`, `NUNCIO_SCALE_EDITS` and `NUNCIO_SCALE_AWAY` (seconds) change the extent; `docs/scaling.md` has
//! the figures. CPU time is that of the gateway's process, in steps of 10 ms; API server, upstream and clients share
//! the machine with it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Cluster;
use super::objects::{mapping, secret, service, slice, tls_context, tls_secret};
use crate::support::certificates::{Certificates, Identity};
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::Gateway;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Figures beside what they must reach.
#[derive(Default)]
struct Aims {
    missed: Vec<String>,
}

impl Aims {
    /// A figure without an aim.
    fn tell(&self, what: &str, figure: impl Display) {
        eprintln!("| {what} | {figure} | |");
    }

    fn at_most(&mut self, what: &str, figure: f64, most: f64, unit: &str) {
        let line = format!("| {what} | {figure:.1} {unit} | {most} {unit} |");
        eprintln!("{line}");
        if figure > most {
            self.missed.push(line);
        }
    }

    fn none_lost(&mut self, lost: usize) {
        self.at_most("requests that were not answered 200", lost as f64, 0.0, "");
    }

    fn end(self) {
        assert!(self.missed.is_empty(), "missed:\n{}", self.missed.join("\n"));
    }
}

/// A cluster of many objects, and the upstream behind the Service `svc-0`.
struct Large {
    cluster: Cluster,
    ca: Certificates,
    upstream: Upstream,
    mappings: usize,
}

impl Large {
    /// A tenth as many TLSContexts and Secrets as Mappings; a Service and an EndpointSlice for each.
    async fn new() -> Self {
        let mappings = setting("NUNCIO_SCALE_MAPPINGS", 10_000);
        let ca = Certificates::new();
        let upstream = Tls::with(&ca.server(&["svc-0"])).client_ca(&ca.pem(), true);
        let closing = upstream.answer(|_| {
            let close = http::Response::builder().header("connection", "close");
            close.body("ok".into()).unwrap()
        });
        let upstream = closing.start().await;
        let cluster = Cluster::guarded().await;
        cluster.apply(secret("ca", &[("ca.crt", &ca.pem())])).await;
        for number in 0..mappings / 10 {
            let name = format!("client-{number}");
            cluster.apply(tls_secret(&name, &ca.client(&name))).await;
            let spec = json!({"secret": name, "ca_secret": "ca"});
            cluster
                .apply(tls_context(&format!("context-{number}"), &spec))
                .await;
        }
        for number in 0..mappings {
            let name = format!("svc-{number}");
            let address = match number {
                0 => upstream.address,
                _ => format!("10.{}.{}.1:8443", number / 250, number % 250)
                    .parse()
                    .unwrap(),
            };
            cluster.apply(service(&name)).await;
            cluster
                .apply(slice(&format!("{name}-x"), &name, &[address]))
                .await;
            cluster.apply(Self::mapping(number, 0)).await;
        }
        Self {
            cluster,
            ca,
            upstream,
            mappings,
        }
    }

    /// An edit changes what it says, not how much.
    fn mapping(number: usize, edit: usize) -> Value {
        let rewrite = format!("/{edit:06}/");
        let tls = json!({"tls": format!("context-{}", number / 10), "rewrite": rewrite});
        mapping(
            &format!("mapping-{number:05}"),
            &format!("/{number}/"),
            &format!("https://svc-{number}"),
            &tls,
        )
    }

    /// Starts the gateway, and says how long it took and what it cost.
    async fn start(&self, aims: &mut Aims) -> Gateway {
        let sent = self.cluster.gate().sent();
        let begun = Instant::now();
        let gateway = self.cluster.plan().args(&["--access-log", "off"]).start().await;
        let took = begun.elapsed();
        let cost = Cost::of(&gateway);
        gateway.get("/0/").await.assert_ok();
        let gate = self.cluster.gate();
        aims.tell("Mappings", self.mappings);
        aims.tell("Services, and as many EndpointSlices", self.mappings);
        aims.tell("TLSContexts, and as many Secrets", self.mappings / 10);
        aims.at_most("ready after", took.as_secs_f64(), 5.0, "s");
        aims.at_most("CPU until ready", cost.cpu.as_secs_f64(), 2.0, "s");
        aims.at_most("resident when ready", cost.resident, 250.0, "MB");
        let asked = gate.asked();
        let count = |verb: &str| asked.iter().filter(|asked| asked.verb == verb).count();
        aims.tell("pages of lists", count("list"));
        aims.tell("watches", count("watch"));
        aims.tell(
            "MB that the API server sent",
            format!("{:.1}", (gate.sent() - sent) as f64 / 1e6),
        );
        gateway
    }

    /// Edits a Mapping so that `/edit/` leads to the upstream with a path that tells of the edit.
    async fn edit(&self, edit: usize) {
        let rewrite = json!({"tls": "context-0", "rewrite": format!("/edit-{edit}/")});
        self.cluster
            .apply(mapping("mapping-edited", "/edit/", "https://svc-0", &rewrite))
            .await;
    }

    /// Until an edit is seen by the upstream.
    async fn is_live(&self, gateway: &Gateway, edit: usize) {
        let wanted = format!("/edit-{edit}/");
        loop {
            let answer = gateway.get("/edit/").await;
            let seen = self.upstream.requests();
            if answer.status == StatusCode::OK && seen.last().is_some_and(|seen| seen.uri.path() == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn is_shown(&self, gateway: &Gateway, client: &Identity) {
        loop {
            gateway.get("/0/").await.assert_ok();
            let connections = self.upstream.connections();
            let asked = connections.into_iter().rfind(|seen| !seen.requests.is_empty());
            let shown = asked.and_then(|seen| seen.session?.client);
            if shown.is_some_and(|shown| shown == client.chain_der()[0].as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What a process has used.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    /// MB
    resident: f64,
}

impl Cost {
    fn of(gateway: &Gateway) -> Self {
        let id = gateway.program.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|text| text.parse::<u64>().unwrap())
            .sum();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kilobytes: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
        Self {
            cpu: Duration::from_millis(ticks * 10),
            resident: kilobytes * 1.024e-3,
        }
    }

    fn since(&self, before: Self) -> Duration {
        self.cpu - before.cpu
    }
}

/// Requests, one after the other, until it is ended.
struct Load {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    lost: JoinHandle<usize>,
}

impl Load {
    fn start(gateway: &Gateway, path: &'static str) -> Self {
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count, address) = (Arc::clone(&ended), Arc::clone(&sent), gateway.address);
        let lost = tokio::spawn(async move {
            let mut lost = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = Client::http1(address).await.get(&address.to_string(), path).await;
                lost += usize::from(answer.status != StatusCode::OK);
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            lost
        });
        Self { ended, sent, lost }
    }

    async fn end(self, aims: &mut Aims) {
        self.ended.store(true, Ordering::Relaxed);
        let lost = self.lost.await.unwrap();
        aims.tell("requests meanwhile", self.sent.load(Ordering::Relaxed));
        aims.none_lost(lost);
    }
}

/// Configurations that were published so far.
fn published(gateway: &Gateway) -> usize {
    let log = gateway.program.stderr();
    log.iter()
        .filter(|line| line.contains("configuration published"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see the head of the file"]
async fn a_start_one_edit_and_a_rotation() {
    const ROUNDS: usize = 20;
    let mut aims = Aims::default();
    let large = Large::new().await;
    let gateway = large.start(&mut aims).await;

    let mut slowest = Duration::ZERO;
    for edit in 0..ROUNDS {
        let begun = Instant::now();
        large.edit(edit).await;
        large.is_live(&gateway, edit).await;
        slowest = slowest.max(begun.elapsed());
    }
    aims.at_most(
        "an edit is live after at most",
        slowest.as_secs_f64() * 1e3,
        300.0,
        "ms",
    );

    let (before, count) = (Cost::of(&gateway), published(&gateway));
    for edit in 0..ROUNDS {
        large.edit(ROUNDS + edit).await;
        while published(&gateway) == count + edit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let cpu = Cost::of(&gateway).since(before) / u32::try_from(ROUNDS).unwrap();
    aims.at_most("CPU of an edit", cpu.as_secs_f64() * 1e3, 50.0, "ms");

    let before = Cost::of(&gateway);
    for round in 0..ROUNDS {
        let address = format!("10.200.{round}.1:8443").parse().unwrap();
        large.cluster.apply(slice("svc-1-x", "svc-1", &[address])).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let cpu = Cost::of(&gateway).since(before) / u32::try_from(ROUNDS).unwrap();
    aims.tell(
        "CPU of a change of endpoints",
        format!("{:.1} ms", cpu.as_secs_f64() * 1e3),
    );

    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        if round % 2 == 1 {
            large.cluster.delete("v1", "Secret", "client-0").await;
        }
        let client = large.ca.client("next");
        large.cluster.apply(tls_secret("client-0", &client)).await;
        let begun = Instant::now();
        large.is_shown(&gateway, &client).await;
        slowest = slowest.max(begun.elapsed());
    }
    aims.at_most(
        "a rotated Secret is used after at most",
        slowest.as_secs_f64(),
        1.0,
        "s",
    );
    aims.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see the head of the file"]
async fn a_hundred_edits_a_second() {
    let edits = setting("NUNCIO_SCALE_EDITS", 10_000);
    let mut aims = Aims::default();
    let large = Large::new().await;
    let gateway = large.start(&mut aims).await;
    let load = Load::start(&gateway, "/0/");
    let before = Cost::of(&gateway);
    let mut settled = before;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let begun = Instant::now();
    for edit in 0..edits {
        ticks.tick().await;
        let number = 1 + (edit * 7919) % (large.mappings - 1);
        large.cluster.apply(Large::mapping(number, edit)).await;
        if edit == edits / 5 {
            settled = Cost::of(&gateway);
        }
    }
    let took = begun.elapsed();
    let after = Cost::of(&gateway);
    aims.tell("edits", edits);
    aims.tell(
        "edits a second",
        format!("{:.0}", edits as f64 / took.as_secs_f64()),
    );
    let share = after.since(before).as_secs_f64() / took.as_secs_f64();
    aims.tell("of one core", format!("{:.0} %", share * 100.0));
    aims.tell(
        "resident after a fifth of them",
        format!("{:.0} MB", settled.resident),
    );
    aims.at_most(
        "more at the end",
        after.resident - settled.resident,
        settled.resident * 0.05,
        "MB",
    );
    load.end(&mut aims).await;
    large.edit(0).await;
    let begun = Instant::now();
    large.is_live(&gateway, 0).await;
    aims.at_most(
        "the last edit is live after",
        begun.elapsed().as_secs_f64() * 1e3,
        300.0,
        "ms",
    );
    aims.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see the head of the file"]
async fn an_api_server_that_is_away_for_long() {
    let away = Duration::from_secs(setting("NUNCIO_SCALE_AWAY", 600) as u64);
    let mut aims = Aims::default();
    let mut large = Large::new().await;
    let gateway = large.start(&mut aims).await;
    let load = Load::start(&gateway, "/0/");
    large.cluster.gate_mut().go_away().await;
    let before = Cost::of(&gateway);
    tokio::time::sleep(away).await;
    aims.tell("seconds without the API server", away.as_secs());
    let share = Cost::of(&gateway).since(before).as_secs_f64() / away.as_secs_f64();
    aims.tell("of one core meanwhile", format!("{:.1} %", share * 100.0));
    large.edit(0).await;
    // It has forgotten what happened, so everything is listed again.
    large.cluster.compact().await;
    let begun = Instant::now();
    large.cluster.gate_mut().come_back().await;
    large.is_live(&gateway, 0).await;
    aims.at_most("caught up after", begun.elapsed().as_secs_f64(), 5.0, "s");
    load.end(&mut aims).await;
    aims.end();
}
