//! `nuncio demo`: the two documented examples against TLS upstreams that tell what they saw.
//!
//! Each story is a gateway of its own, because a gateway that runs keeps the last good version of a
//! Secret: only a fresh one shows what happens without it.

mod certificates;
mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use nuncio_compile::{Options, ResolveRule};
use nuncio_model::{Alpn, Problem, Severity, TlsVersion};
use nuncio_proxy::{AccessLog, ProxyOptions};
use tempfile::TempDir;

use self::certificates::Certificates;
use self::request::{Answer, get};
use crate::cli::DemoArgs;
use crate::echo::{self, EchoHandle, EchoOptions, EchoTls};
use crate::failure::Failure;
use crate::output;
use crate::run::{Gateway, NotOpened};
use crate::settings::{RunSettings, Source};
use crate::signals::Termination;

const BASIC: &str = include_str!("../../../examples/basic.yaml");
const ADVANCED: &str = include_str!("../../../examples/advanced.yaml");
/// Another program may take a port between its choice and its use; so often another one is tried.
const ATTEMPTS: usize = 5;
const PATH: &str = "/hello";
/// Characters of a sentence beside its name.
const WIDTH: usize = 74;

/// One gateway and what a request to it must show.
struct Story {
    title: &'static str,
    folder: &'static str,
    manifests: Vec<(&'static str, String)>,
    upstream: Upstream,
    expected: Expected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Upstream {
    A,
    B,
}

impl Upstream {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// What makes an answer right.
enum Expected {
    Tls {
        sni: &'static str,
        version: Option<&'static str>,
        client: Option<&'static str>,
    },
    Refused {
        reason: &'static str,
    },
}

/// The upstreams; they end when this is dropped.
struct Upstreams {
    a: EchoHandle,
    b: EchoHandle,
}

impl Upstreams {
    fn get(&self, upstream: Upstream) -> &EchoHandle {
        match upstream {
            Upstream::A => &self.a,
            Upstream::B => &self.b,
        }
    }
}

/// A story whose gateway serves.
struct Running {
    story: Story,
    gateway: Gateway,
    port: u16,
}

/// Sets everything up, then makes the requests (`--once`) or waits for Ctrl-C.
pub(crate) async fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let folder = tempfile::Builder::new()
        .prefix("nuncio-demo-")
        .tempdir()
        .map_err(|error| {
            Failure::wrong(format!(
                "cannot make a temporary folder: {error}; TMPDIR names where it is tried"
            ))
        })?;
    let mut signals = Termination::listen()?;
    let certificates = Certificates::new().map_err(|error| Failure::wrong(error.to_string()))?;
    certificates
        .write(folder.path())
        .map_err(|error| cannot_write(folder.path(), &error))?;
    let upstreams = start_upstreams(&certificates).await?;
    let mut running = Vec::new();
    for story in stories(&certificates) {
        running.push(start(story, folder.path(), &upstreams).await?);
    }
    introduce(&folder, &upstreams);
    let code = if args.once {
        tell_all(&running, &upstreams).await?
    } else {
        propose(&running, folder.path());
        signals.next().await;
        ExitCode::SUCCESS
    };
    for Running { gateway, .. } in running {
        gateway.drain().await;
    }
    Ok(code)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::wrong(format!("cannot write {}: {error}", path.display()))
}

fn stories(certificates: &Certificates) -> Vec<Story> {
    let advanced = || ("advanced.yaml", ADVANCED.to_owned());
    vec![
        Story {
            title: "examples/basic.yaml: a Mapping to https://example-service, no TLSContext",
            folder: "basic",
            manifests: vec![("basic.yaml", BASIC.to_owned())],
            upstream: Upstream::A,
            expected: Expected::Tls {
                sni: "example-service",
                version: None,
                client: None,
            },
        },
        Story {
            title: "examples/advanced.yaml: the TLSContext asks for TLS 1.3, an SNI and a certificate",
            folder: "advanced",
            manifests: vec![advanced(), ("secret.yaml", certificates.secret())],
            upstream: Upstream::B,
            expected: Expected::Tls {
                sni: "some-sni-hostname",
                version: Some("TLSv1.3"),
                client: Some(certificates::CLIENT),
            },
        },
        Story {
            title: "examples/advanced.yaml again, but nobody made its Secret",
            folder: "without-secret",
            manifests: vec![advanced()],
            upstream: Upstream::B,
            expected: Expected::Refused {
                reason: "tls_config_unresolved",
            },
        },
    ]
}

async fn start_upstreams(certificates: &Certificates) -> Result<Upstreams, Failure> {
    let tls = |client_ca: Option<&[u8]>, min| {
        let (chain, key) = (certificates.server.as_bytes(), certificates.server_key.as_bytes());
        let protocols = [Alpn::H2, Alpn::Http1];
        let require = client_ca.is_some();
        nuncio_tls::server_config(chain, key, client_ca, require, &protocols, min, TlsVersion::V1_3)
            .map(|config| EchoTls {
                config,
                verifies_clients: require,
            })
            .map_err(|error| Failure::wrong(error.message))
    };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let start = async |tls| {
        let options = EchoOptions {
            listen,
            tls: Some(tls),
        };
        echo::start(options)
            .await
            .map_err(|error| Failure::wrong(format!("cannot start an upstream: {error}")))
    };
    Ok(Upstreams {
        a: start(tls(None, TlsVersion::V1_2)?).await?,
        b: start(tls(Some(certificates.authority.as_bytes()), TlsVersion::V1_3)?).await?,
    })
}

async fn start(story: Story, root: &Path, upstreams: &Upstreams) -> Result<Running, Failure> {
    let folder = root.join(story.folder);
    std::fs::create_dir(&folder).map_err(|error| cannot_write(&folder, &error))?;
    for (name, text) in &story.manifests {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| cannot_write(&path, &error))?;
    }
    let upstream = upstreams.get(story.upstream).address;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let port = free_port().map_err(|error| Failure::wrong(format!("no free port: {error}")))?;
        let path = folder.join("listener.yaml");
        std::fs::write(&path, listener(port)).map_err(|error| cannot_write(&path, &error))?;
        let mut gateway = Gateway::start(settings(folder.clone(), upstream), None).await?;
        match gateway.opened().await {
            Ok(()) => return Ok(Running { story, gateway, port }),
            Err(NotOpened::Proxy(error)) => last = error.to_string(),
            Err(NotOpened::Controller(error)) => return Err(Failure::wrong(error)),
        }
    }
    Err(Failure::wrong(format!("the gateway does not come up: {last}")))
}

fn free_port() -> std::io::Result<u16> {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(socket.local_addr()?.port())
}

fn listener(port: u16) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\n\
         kind: Listener\n\
         metadata:\n  name: demo\n\
         spec:\n  port: {port}\n  protocol: HTTP\n  securityModel: INSECURE\n  \
         hostBinding:\n    namespace:\n      from: ALL\n"
    )
}

fn settings(folder: PathBuf, upstream: SocketAddr) -> RunSettings {
    let rule = ResolveRule {
        host: "example-service".to_owned(),
        port: 443,
        address: upstream.ip(),
        to_port: Some(upstream.port()),
    };
    RunSettings {
        source: Source::Files(vec![folder]),
        admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        admin_names: Vec::new(),
        proxy: ProxyOptions {
            workers: 1,
            bind: Ipv4Addr::LOCALHOST.into(),
            access_log: AccessLog::Off,
            expose_reasons: true,
            drain_time: Duration::from_secs(1),
            take_over: false,
            descriptors: 1024,
            admin_connections: 16,
        },
        compile: Options {
            resolve: vec![rule],
            now: SystemTime::now(),
            ..Options::default()
        },
        shutdown_delay: Duration::ZERO,
        warnings: Vec::new(),
    }
}

fn introduce(folder: &TempDir, upstreams: &Upstreams) {
    let (a, b) = (upstreams.a.address, upstreams.b.address);
    output::line(format_args!(
        "Two TLS upstreams (`nuncio echo`), certificates and manifests, all in\n\
         {} until this ends:\n  \
         A  https://{a}  TLS 1.2 or 1.3\n  \
         B  https://{b}  TLS 1.3 only, demands a client certificate\n\
         Each gateway below reaches one of them as example-service:443, as with --resolve.",
        folder.path().display()
    ));
}

/// What to type, for those who want to see for themselves.
fn propose(running: &[Running], folder: &Path) {
    for (number, Running { story, gateway, port }) in (1..).zip(running) {
        output::line(format_args!(
            "\n{number}. {} (upstream {})\n   \
             curl -i http://127.0.0.1:{port}{PATH}\n   \
             curl http://{}/api/v1/upstreams",
            story.title,
            story.upstream.name(),
            gateway.admin,
        ));
    }
    output::line(format_args!(
        "\nEdit the manifests in {} and ask again: changes count at once.\nCtrl-C ends it.",
        folder.display()
    ));
}

async fn tell_all(running: &[Running], upstreams: &Upstreams) -> Result<ExitCode, Failure> {
    let mut wrong = 0;
    for (number, one) in (1..).zip(running) {
        let upstream = upstreams.get(one.story.upstream);
        let before = upstream.connections();
        let answer = get(one.port, PATH).await?;
        let reached = upstream.connections() > before;
        output::line(format_args!("\n{number}. {}", one.story.title));
        output::line(format_args!(
            "   GET http://127.0.0.1:{}{PATH} -> {}",
            one.port, answer.status
        ));
        let found = match &one.story.expected {
            Expected::Tls { sni, version, client } => {
                tell_tls(&answer, one.story.upstream);
                check_tls(&answer, sni, *version, *client)
            }
            Expected::Refused { reason } => {
                tell_refusal(&answer, &one.gateway, reached);
                check_refusal(&answer, reason, reached)
            }
        };
        match found {
            Ok(()) => output::line(format_args!("   as it should be")),
            Err(what) => {
                wrong += 1;
                output::line(format_args!("   WRONG: {what}"));
            }
        }
    }
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn row(name: &str, value: &str) {
    output::line(format_args!("     {name:<20}{value}"));
}

fn tell_tls(answer: &Answer, upstream: Upstream) {
    let Some(tls) = answer.tls() else {
        return row("answer", &answer.body);
    };
    row("answered by", &format!("upstream {}", upstream.name()));
    row("TLS", &format!("{} {}", tls.version, tls.cipher));
    row("SNI it saw", tls.sni.as_deref().unwrap_or("none"));
    row("client certificate", tls.client.as_deref().unwrap_or("none"));
}

fn check_tls(answer: &Answer, sni: &str, version: Option<&str>, client: Option<&str>) -> Result<(), String> {
    if answer.status != 200 {
        return Err("the status is not 200".to_owned());
    }
    let tls = answer.tls().ok_or("the upstream saw no TLS")?;
    if tls.sni.as_deref() != Some(sni) {
        return Err(format!("the SNI is not {sni}"));
    }
    if version.is_some_and(|version| version != tls.version) {
        return Err(format!("the version is {}", tls.version));
    }
    match client {
        Some(name)
            if tls
                .client
                .as_deref()
                .is_none_or(|subject| !subject.contains(name)) =>
        {
            Err(format!("the client certificate is not {name}"))
        }
        None if tls.client.is_some() => Err("a client certificate was shown".to_owned()),
        _ => Ok(()),
    }
}

fn tell_refusal(answer: &Answer, gateway: &Gateway, reached: bool) {
    row("x-nuncio-reason", answer.reason.as_deref().unwrap_or("none"));
    let snapshot = gateway.snapshot();
    let problems = snapshot.iter().flat_map(|snapshot| snapshot.problems.iter());
    let mut errors = problems.filter(|problem| problem.severity == Severity::Error);
    if let Some(problem) = errors.find(|problem| concerns_a_mapping(problem)) {
        for (number, line) in output::wrapped(&problem.message, WIDTH).iter().enumerate() {
            row(if number == 0 { "why" } else { "" }, line);
        }
    }
    row(
        "upstream B",
        if reached {
            "got a connection"
        } else {
            "got nothing, not one byte"
        },
    );
}

fn concerns_a_mapping(problem: &Problem) -> bool {
    problem
        .object
        .as_ref()
        .is_some_and(|object| &*object.kind == "Mapping")
}

fn check_refusal(answer: &Answer, reason: &str, reached: bool) -> Result<(), String> {
    if answer.status != 503 || answer.reason.as_deref() != Some(reason) {
        return Err(format!("the answer is not 503 {reason}"));
    }
    if reached {
        Err("the upstream got a connection".to_owned())
    } else {
        Ok(())
    }
}
