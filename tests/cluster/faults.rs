//! What API servers do when they are not well; nothing of it may cost a request.

use std::process::Command;

use kube::api::DeleteParams;
use serde_json::json;

use super::gate::Fault;
use super::objects::{OURS, mapping, secret, tls_context};
use super::{Cluster, problem_is_told};
use crate::support::client::Client;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, Running, nuncio};
use crate::support::waiting::eventually;

/// Mappings `m0` to `m<count - 1>` at `/0/` and so on, all to one upstream.
async fn with_mappings(count: usize) -> (Cluster, Upstream) {
    let cluster = Cluster::guarded().await;
    let upstream = Upstream::cleartext().await;
    for number in 0..count {
        put(&cluster, number, &upstream).await;
    }
    (cluster, upstream)
}

async fn put(cluster: &Cluster, number: usize, upstream: &Upstream) {
    let service = format!("http://{}", upstream.address);
    let (name, prefix) = (format!("m{number:04}"), format!("/{number}/"));
    cluster.apply(mapping(&name, &prefix, &service, &json!({}))).await;
}

async fn serves(gateway: &Gateway, number: usize) {
    gateway.get(&format!("/{number}/")).await.assert_ok();
}

async fn comes_to_serve(gateway: &Gateway, number: usize) {
    let path = format!("/{number}/");
    gateway.get_until(&path, |answer| answer.status == 200).await;
}

/// Enough for three pages of a list.
const MANY: usize = 1200;

#[tokio::test]
async fn g1_nothing_is_served_before_every_list_is_complete() {
    let (cluster, _upstream) = with_mappings(MANY).await;
    let faults = [Fault::Internal, Fault::CutOff, Fault::Expired];
    cluster.gate().fail_pages("mappings", &faults);
    let gateway = cluster.plan().start().await;
    assert!(cluster.gate().count("list", "mappings") > MANY / 500 + faults.len());
    for number in [0, MANY / 2, MANY - 1] {
        serves(&gateway, number).await;
    }
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics.text().contains("nuncio_config_revision 1\n"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn g4_an_api_server_that_is_away_costs_nothing_and_is_caught_up_with() {
    let (mut cluster, upstream) = with_mappings(3).await;
    let mut gateway = cluster.plan().start().await;
    cluster.gate_mut().go_away().await;
    gateway.program.logged("cannot be reached").await;
    eventually("the loss is told", async || {
        let metrics = gateway.admin("/metrics").await;
        serves(&gateway, 0).await;
        metrics
            .text()
            .contains("nuncio_kubernetes_watch_up{kind=\"mappings\"} 0\n")
            .then_some(())
    })
    .await;
    // What changes meanwhile, and what the server forgets, is known once it is back.
    put(&cluster, 3, &upstream).await;
    cluster.delete(OURS, "Mapping", "m0001").await;
    cluster.compact().await;
    cluster.gate_mut().come_back().await;
    comes_to_serve(&gateway, 3).await;
    gateway.get_until("/1/", |answer| answer.status == 404).await;
    serves(&gateway, 0).await;
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("nuncio_kubernetes_watch_up{kind=\"mappings\"} 1\n")
    );
    // The log has it once, not once a kind and try.
    gateway.program.logged("the API server answers again").await;
    let log = gateway.program.stderr();
    let told = log.iter().filter(|line| line.contains("cannot be reached"));
    assert_eq!(told.count(), 1, "{log:#?}");
}

#[tokio::test]
async fn g5_a_list_that_breaks_off_is_no_deletion() {
    let (mut cluster, upstream) = with_mappings(MANY).await;
    let gateway = cluster.plan().start().await;
    cluster.gate_mut().go_away().await;
    cluster
        .gate()
        .fail_pages("mappings", &[Fault::CutOff, Fault::Internal, Fault::Expired]);
    let lists = cluster.gate().count("list", "mappings");
    // One of the last page: it is heard of when a list has come to its end.
    put(&cluster, MANY, &upstream).await;
    cluster.compact().await;
    cluster.gate_mut().come_back().await;
    eventually("a whole list after broken ones", async || {
        serves(&gateway, MANY - 1).await;
        let listed = cluster.gate().count("list", "mappings") - lists;
        (listed > 3 && gateway.get(&format!("/{MANY}/")).await.status == 200).then_some(())
    })
    .await;
    serves(&gateway, MANY - 1).await;
}

#[tokio::test]
async fn a_watch_that_is_cut_in_an_event_goes_on_where_it_was() {
    let (cluster, upstream) = with_mappings(1).await;
    let gateway = cluster.plan().start().await;
    assert_eq!(cluster.gate().lists("mappings"), 1);
    for number in 1..4 {
        cluster.gate().cut_watches();
        put(&cluster, number, &upstream).await;
        comes_to_serve(&gateway, number).await;
    }
    assert_eq!(cluster.gate().lists("mappings"), 1);
}

/// A watch that tells nothing for minutes is common, so it is for the kernel to notice that the other end is gone.
#[tokio::test]
async fn connections_ask_whether_the_api_server_is_still_there() {
    let (cluster, _upstream) = with_mappings(1).await;
    let _gateway = cluster.plan().start().await;
    let to_server = format!(":{:04X}", cluster.gate().address.port());
    eventually("idle connections are kept alive", async || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let fields = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Those that are established, and the timer that runs for each: 02 is the one of keepalive, then when it is
        // due in hundredths of a second. Without being asked to, the kernel waits for two hours.
        let kept_alive = fields
            .filter(|fields| fields[2].ends_with(&to_server) && fields[3] == "01")
            .map(|fields| fields[5].split_once(':').unwrap())
            .filter(|(timer, due)| *timer == "02" && u64::from_str_radix(due, 16).unwrap() <= 3000);
        (kept_alive.count() >= 10).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_kind_that_must_not_be_read_is_one_problem_and_the_rest_serves() {
    let (cluster, upstream) = with_mappings(1).await;
    cluster.gate().forbid("hosts", true);
    cluster.gate().install("tlscontexts", false);
    let gateway = cluster.plan().start().await;
    serves(&gateway, 0).await;
    problem_is_told(&gateway, "kind_forbidden", true).await;
    problem_is_told(&gateway, "kind_not_installed", true).await;
    let uses = mapping(
        "uses",
        "/uses/",
        &format!("https://{}", upstream.address),
        &json!({"tls": "context"}),
    );
    cluster.apply(uses).await;
    gateway
        .get_until("/uses/", |answer| answer.reason() == "tls_config_unresolved")
        .await;
    cluster.gate().forbid("hosts", false);
    cluster.gate().install("tlscontexts", true);
    cluster
        .apply(tls_context("context", &json!({"sni": "x.test"})))
        .await;
    problem_is_told(&gateway, "kind_forbidden", false).await;
    problem_is_told(&gateway, "kind_not_installed", false).await;
    gateway
        .get_until("/uses/", |answer| answer.reason() == "not_tls")
        .await;
}

/// A gateway that reads the cluster, before it is started.
fn starting(cluster: &Cluster) -> Command {
    let kubeconfig = cluster.kubeconfig.display().to_string();
    let mut command = nuncio(["run", "--kubernetes", "--kubeconfig", &kubeconfig]);
    command.args(["--admin", "127.0.0.1:0", "--bind", "127.0.0.1"]);
    command.env("AMBASSADOR_ID", &cluster.namespace);
    command
}

#[tokio::test]
async fn a_gateway_that_finds_no_api_server_waits_for_it() {
    let (mut cluster, _upstream) = with_mappings(1).await;
    cluster.gate_mut().go_away().await;
    let mut program = Running::start(starting(&cluster));
    program.logged("admin interface on").await;
    program.logged("cannot be reached").await;
    cluster.gate_mut().come_back().await;
    program.logged(" ready").await;
}

#[tokio::test]
async fn who_is_not_known_waits_and_says_for_what() {
    let (cluster, _upstream) = with_mappings(1).await;
    cluster.gate().know_nobody(true);
    let mut program = Running::start(starting(&cluster));
    program.logged("cannot be watched").await;
    let admin = program.admin().await;
    let answer = eventually("every kind was refused", async || {
        let mut client = Client::http1(admin).await;
        let answer = client.get("localhost", "/ambassador/v0/check_ready").await;
        (answer.text().matches("status 401").count() >= 8).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 503);
    let told =
        "waits for a complete list of mappings.getambassador.io (the API server answers with status 401";
    assert!(answer.text().contains(told), "{}", answer.text());
    cluster.gate().know_nobody(false);
    program.logged(" ready").await;
}

/// An account without rights is no cluster without objects.
#[tokio::test]
async fn nothing_is_served_while_nothing_may_be_read() {
    let (cluster, _upstream) = with_mappings(1).await;
    let ours = [
        "mappings",
        "tlscontexts",
        "hosts",
        "listeners",
        "modules",
        "tcpmappings",
    ];
    for plural in ours {
        cluster.gate().forbid(plural, true);
    }
    let mut program = Running::start(starting(&cluster));
    eventually("every kind is asked for a second time", async || {
        let again = |plural: &&str| cluster.gate().count("list", plural) >= 2;
        ours.iter().all(again).then_some(())
    })
    .await;
    assert!(!program.stderr().iter().any(|line| line.ends_with(" ready")));
    for plural in ours {
        cluster.gate().forbid(plural, false);
    }
    program.logged(" ready").await;
}

/// The memory of a process in KiB: `VmRSS` now, `VmHWM` the most so far.
fn memory(program: &Running, which: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn memory_stays_flat_over_thousands_of_edits() {
    let (cluster, upstream) = with_mappings(20).await;
    let gateway = cluster.plan().start().await;
    let mappings = cluster.api(OURS, "Mapping");
    let mut number = 0;
    let mut edit = async |edits: usize| {
        for _ in 0..edits {
            number += 1;
            put(&cluster, 20 + number % 50, &upstream).await;
            let other = format!("m{:04}", 20 + (number + 25) % 50);
            let _ = mappings.delete(&other, &DeleteParams::default()).await;
            if number % 50 == 0 {
                comes_to_serve(&gateway, 20).await;
            }
        }
    };
    edit(1000).await;
    let before = memory(&gateway.program, "VmRSS:");
    edit(3000).await;
    let after = memory(&gateway.program, "VmRSS:");
    assert!(after < before + 8 * 1024, "{before} KiB have become {after} KiB");
}

#[tokio::test]
async fn secrets_that_nobody_names_cost_no_more_than_a_page_at_a_time() {
    let (cluster, _upstream) = with_mappings(1).await;
    let large = "x".repeat(750 * 1024);
    for number in 0..LARGE {
        let name = format!("large-{number}");
        cluster.apply(secret(&name, &[("data", &large)])).await;
    }
    // What others have in a real cluster is not what is measured here.
    let plan = cluster.plan().env("AMBASSADOR_SINGLE_NAMESPACE", "true");
    let gateway = plan.start().await;
    serves(&gateway, 0).await;
    let most = memory(&gateway.program, "VmHWM:");
    assert!(most < LARGE * 1024, "{most} KiB");
}

/// Secrets of a mebibyte, as they stand in a list.
const LARGE: usize = 130;
