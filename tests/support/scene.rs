//! A gateway with an upstream that misbehaves and one that does not.

use rustls::SupportedProtocolVersion;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsStream;

use super::certificates::Certificates;
use super::client::Response;
use super::peer::{Tapped, Tls, Upstream, read_head};
use super::program::{Gateway, Plan, mapping, tls_context};
use super::sealed::{SUITES, Sealer};

/// So much more memory than before a gateway may have held at its worst.
const MOST_GROWTH: usize = 32 << 20;

const GOOD: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata:
  name: good
spec:
  hostname: \"*\"
  prefix: /good/
  service: https://good.test
";

/// The gateway has one worker, so whoever keeps that busy keeps everybody waiting.
pub struct Scene {
    pub gateway: Gateway,
    _good: Upstream,
    before: usize,
}

impl Scene {
    /// With a Mapping of paths below `/bad/` to `service`, with these further lines of its spec. Paths below
    /// `/good/` go to a TLS upstream that answers `ok`.
    pub async fn new(service: &str, lines: &[&str]) -> Self {
        Self::start(Gateway::with(mapping("bad", "/bad/", service, lines) + GOOD)).await
    }

    /// The same with `https://a.test`, which is `bad`. Its certificate is verified against this authority.
    pub async fn over_tls(bad: &Upstream, ca: &Certificates, lines: &[&str]) -> Self {
        let context = tls_context("ctx", &["ca_secret: ca", "verify: {mode: full}"]);
        let mut all = vec!["tls: ctx"];
        all.extend(lines);
        let mapping = mapping("bad", "/bad/", "https://a.test", &all);
        let plan = Gateway::with(ca.secret("ca") + &context + &mapping + GOOD);
        Self::start(plan.resolve("a.test:443", bad.address)).await
    }

    async fn start(plan: Plan) -> Self {
        let good = Upstream::tls(&Certificates::new().server(&["good.test"])).await;
        let gateway = plan.resolve("good.test:443", good.address).start().await;
        gateway.get("/good/").await.assert_ok();
        let before = most_memory(&gateway);
        Self {
            gateway,
            _good: good,
            before,
        }
    }

    /// GETs a path below `/bad/`, and `/good/` at the same time, which must be answered as ever. Gives the
    /// answer, and its entry in the access log.
    pub async fn ask(&self, name: &str) -> (Response, Value) {
        let path = format!("/bad/{name}");
        let others = async {
            for _ in 0..3 {
                self.gateway.get("/good/").await.assert_ok();
            }
        };
        let (answer, ()) = tokio::join!(self.gateway.get(&path), others);
        (answer, self.gateway.access_log(&path).await)
    }

    /// Asks, and is told this reason with these words.
    pub async fn assert_fails(&self, name: &str, reason: &str, words: &str) {
        let (answer, entry) = self.ask(name).await;
        let message = entry["message"].as_str().unwrap_or_default();
        assert_eq!(answer.reason(), reason, "{name}: {entry:#}");
        assert!(message.contains(words), "{name}: no `{words}` in {entry:#}");
    }

    /// Goes on serving, and held no more memory than is reasonable.
    pub async fn assert_unharmed(&self) {
        self.gateway.get("/good/").await.assert_ok();
        let growth = most_memory(&self.gateway).saturating_sub(self.before);
        assert!(growth < MOST_GROWTH, "the gateway grew by {growth} bytes");
    }
}

/// The most memory that a gateway has ever held, in bytes, as Linux counts it.
fn most_memory(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.program.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// A TLS server `a.test` of this version that shakes hands as it should, reads one request's head, and then does
/// whatever `misbehave` does, with a sealer for its records.
pub async fn sealing<F>(
    ca: &Certificates,
    version: &'static SupportedProtocolVersion,
    misbehave: impl Fn(Tapped, Sealer) -> F + Clone + Send + Sync + 'static,
) -> Upstream
where
    F: Future<Output = ()> + Send,
{
    let tls = Tls::with(&ca.server(&["a.test"]))
        .versions(&[version])
        .cipher_suites(&SUITES);
    tls.start_with(move |mut stream, _| {
        let misbehave = misbehave.clone();
        async move {
            read_head(&mut stream).await;
            stream.flush().await.unwrap();
            let TlsStream::Server(stream) = stream else {
                unreachable!("it is a server")
            };
            let (tcp, connection) = stream.into_inner();
            misbehave(tcp, Sealer::of(connection)).await;
        }
    })
    .await
}
