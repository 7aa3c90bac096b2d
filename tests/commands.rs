//! Commands, flags, exit statuses and what is printed.

mod probe;

use std::net::{Ipv4Addr, TcpListener};

use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::certificates::Certificates;
use crate::support::client::{Client, Response, request};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Finished, Gateway, Running, finish, listener, mapping, nuncio, repository};
use crate::support::waiting::eventually;

const COMMANDS: [&str; 7] = ["run", "check", "explain", "probe", "echo", "demo", "crds"];

fn example(name: &str) -> String {
    repository()
        .join("examples")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn help_is_complete_and_has_examples() {
    let overview = finish(&["--help"]);
    assert_eq!(overview.status, 0);
    for command in COMMANDS {
        assert!(
            overview.stdout.contains(&format!("\n  {command} ")),
            "{command} is not in the overview"
        );
        let help = finish(&[command, "--help"]);
        assert_eq!((help.status, help.stderr.as_str()), (0, ""));
        assert!(
            help.stdout.contains(&format!("nuncio {command}")),
            "{command} has no example"
        );
        assert!(
            help.stdout.lines().all(|line| line.chars().count() <= 100),
            "{command}: too wide"
        );
    }
}

#[test]
fn every_flag_of_run_is_in_its_help() {
    let help = finish(&["run", "--help"]).stdout;
    let flags = [
        "--config",
        "--kubernetes",
        "--kubeconfig",
        "--context",
        "--admin",
        "--bind",
        "--resolve",
        "--workers",
        "--access-log",
        "--expose-reasons",
        "--drain-time",
    ];
    for flag in flags {
        assert!(help.contains(flag), "{flag} is missing");
    }
}

#[test]
fn the_version_names_commit_and_tls_library() {
    let version = finish(&["--version"]);
    assert_eq!(version.status, 0);
    let expected = format!("nuncio {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(version.stdout.starts_with(&expected), "{}", version.stdout);
    assert!(
        version.stdout.contains("rustls 0.") && version.stdout.contains("aws-lc-rs 1."),
        "{}",
        version.stdout
    );
}

#[test]
fn bad_usage_exits_with_2_and_says_what_to_do() {
    for (arguments, hint) in [
        (&["run"][..], "--config PATH"),
        (
            &[
                "run",
                "--kubernetes",
                "--admin",
                "127.0.0.1:0",
                "--kubeconfig",
                "/nonexistent/kubeconfig",
            ],
            "/nonexistent/kubeconfig",
        ),
        (
            &[
                "run",
                "--admin",
                "127.0.0.1:0",
                "--config",
                "/nonexistent/manifests",
            ],
            "/nonexistent/manifests",
        ),
        (
            &["run", "--config", ".", "--workers", "none", "--bind", "x"],
            "--bind x",
        ),
        (&["frobnicate"], "frobnicate"),
        (&[], "Usage"),
        (&["check"], "PATH"),
        (&["probe", "some-mapping"], "--config"),
        (&["probe", "http://a.test"], "https://"),
        (&["echo"], "--listen"),
        (
            &["echo", "--listen", "127.0.0.1:0", "--tls-cert", "x"],
            "--tls-key",
        ),
    ] {
        let outcome = finish(arguments);
        assert_eq!(outcome.status, 2, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(hint), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
}

/// Standard output may be closed by its reader.
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut command = nuncio(["--help"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = Finished::of(command.stdout(writer));
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
}

#[test]
fn check_tells_errors_by_its_status() {
    let basic = example("basic.yaml");
    assert_eq!(finish(&["check", &basic]).status, 0);
    // The Secret that advanced.yaml names is not there.
    let advanced = finish(&["check", &example("advanced.yaml"), "--format", "json"]);
    assert_eq!(advanced.status, 1, "{advanced:?}");
    let problems: serde_json::Value = serde_json::from_str(&advanced.stdout).unwrap();
    let text = problems.to_string();
    assert!(
        text.contains("self-signed-cert") && text.contains("\"severity\":\"error\""),
        "{text}"
    );
}

#[test]
fn explain_names_mapping_and_upstream() {
    let outcome = finish(&[
        "explain",
        "http://gateway.test/x",
        "--config",
        &example("basic.yaml"),
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("basic-tls"), "{outcome:?}");
    assert!(
        outcome.stdout.contains("https://example-service:443"),
        "{outcome:?}"
    );
}

#[test]
fn the_demonstration_is_right_and_short() {
    let outcome = finish(&["demo", "--once"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines.len() <= 40 && lines.iter().all(|line| line.chars().count() <= 100),
        "{}",
        outcome.stdout
    );
    for part in [
        "-> 200",
        "-> 503",
        "TLSv1.3",
        "example-service",
        "some-sni-hostname",
        "CN=self-signed-cert",
        "tls_config_unresolved",
    ] {
        assert!(
            outcome.stdout.contains(part),
            "{part} is missing in\n{}",
            outcome.stdout
        );
    }
}

#[tokio::test]
async fn the_demonstration_waits_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = nuncio(["demo"]);
    command.env("TMPDIR", folder.path());
    let mut demo = Running::start(command);
    let port: u16 = demo
        .printed("a request to try", |line| {
            let (_, rest) = line.trim().split_once("curl -i http://127.0.0.1:")?;
            Some(rest.split('/').next()?.parse().unwrap())
        })
        .await;
    let answer = Client::http1((Ipv4Addr::LOCALHOST, port).into())
        .await
        .get("demo", "/x")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["tls"]["sni"], "example-service");
    demo.printed("the end of the text", |line| {
        line.contains("Ctrl-C").then_some(())
    })
    .await;
    demo.signal("INT");
    assert_eq!(demo.end().await, 0);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something was left behind"
    );
}

fn serving(admin: &str, folder: &std::path::Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    ["run", "--bind", "127.0.0.1", "--admin", admin, "--config", folder]
        .map(str::to_owned)
        .to_vec()
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_at_the_start() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("listener.yaml"), listener(port)).unwrap();
    let mut listening = Running::start(nuncio(serving("127.0.0.1:0", folder.path())));
    assert_eq!(listening.end().await, 3);
    let stderr = listening.stderr();
    let last = stderr.last().unwrap();
    assert!(
        last.starts_with("nuncio: ") && last.contains(&port.to_string()),
        "{stderr:?}"
    );

    let mut administered = Running::start(nuncio(serving(&format!("127.0.0.1:{port}"), folder.path())));
    assert_eq!(administered.end().await, 3);
    let stderr = administered.stderr();
    assert!(stderr.last().unwrap().contains("--admin"), "{stderr:?}");
}

/// A gateway with one request under way, which ends when told to.
struct Busy {
    gateway: Gateway,
    release: watch::Sender<bool>,
    answer: JoinHandle<hyper::Result<Response>>,
    _upstream: Upstream,
}

async fn busy() -> Busy {
    let (started, mut starts) = mpsc::unbounded_channel();
    let (release, released) = watch::channel(false);
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server).alpn(&[]).start_with(move |mut stream, _| {
        let (started, mut released) = (started.clone(), released.clone());
        async move {
            read_head(&mut stream).await;
            started.send(()).unwrap();
            released.wait_for(|released| *released).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
                .await
                .unwrap();
        }
    });
    let upstream = upstream.await;
    let plan =
        Gateway::with(mapping("m", "/", "https://a.test", &[])).resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;
    let (address, authority) = (gateway.address, gateway.authority());
    let answer = tokio::spawn(async move {
        let mut client = Client::http1(address).await;
        client.send(request(http::Method::GET, &authority, "/", "")).await
    });
    starts.recv().await.unwrap();
    Busy {
        gateway,
        release,
        answer,
        _upstream: upstream,
    }
}

#[tokio::test]
async fn sigterm_lets_a_request_finish() {
    let mut busy = busy().await;
    busy.gateway.program.signal("TERM");
    busy.gateway.program.logged("SIGTERM").await;
    assert_eq!(
        busy.gateway.program.ended(),
        None,
        "it waits for what is in flight"
    );
    busy.release.send(true).unwrap();
    let answer = busy.answer.await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "late"));
    assert_eq!(busy.gateway.program.end().await, 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut busy = busy().await;
    busy.gateway.program.signal("TERM");
    busy.gateway.program.logged("SIGTERM").await;
    let status = eventually("the end", async || {
        let program = &mut busy.gateway.program;
        let ended = program.ended();
        if ended.is_none() {
            program.signal("INT");
        }
        ended
    });
    assert_eq!(status.await, 1);
    assert!(busy.answer.await.unwrap().is_err(), "the request was cut off");
}
