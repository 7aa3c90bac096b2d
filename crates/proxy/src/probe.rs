//! One real connection to each endpoint, with the settings that traffic would have.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nuncio_model::{EndpointTable, Failure, HandshakeReport, Identity, Reason, Resolve, Verdict};
use nuncio_tls::Evidence;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::upstream::connector::Connected;
use crate::upstream::dns::Dns;
use crate::upstream::live::{LiveUpstream, Wanted};
use crate::upstream::pool::{refused, sockets, speaks_http2};
use crate::upstream::stream::Word;

/// How long a peer may take to judge our certificate, or the lack of one, when the handshake is over.
const VERDICT: Duration = Duration::from_secs(1);
/// How long it must stay when it need not judge, or seems to be content.
const STAY: Duration = Duration::from_millis(300);

/// How to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// For DNS, TCP and TLS of one endpoint together.
    pub connect_timeout: Duration,
}

/// Endpoints that are probed at the same time.
const AT_ONCE: usize = 16;

/// What one endpoint did.
#[derive(Clone, Debug, Default)]
pub struct EndpointProbe {
    /// None where there was no address to try.
    pub address: Option<SocketAddr>,
    /// None for cleartext, and where TLS did not begin.
    pub report: Option<HandshakeReport>,
    /// Why the gateway could not use it.
    pub failure: Option<Failure>,
    /// What each verification mode makes of the chain that was shown; empty where none was.
    pub verdicts: Vec<Verdict>,
}

/// Connects once to each endpoint of `identity`, several at a time, by the same code as the gateway. Needs a
/// runtime of tokio's that runs local tasks.
pub async fn probe(
    identity: &Arc<Identity>,
    endpoints: &EndpointTable,
    options: ProbeOptions,
) -> Vec<EndpointProbe> {
    let addresses = match addresses(identity, endpoints, options).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            return vec![EndpointProbe {
                failure: Some(failure),
                ..EndpointProbe::default()
            }];
        }
    };
    let live = Arc::new(LiveUpstream::new(Arc::clone(identity)));
    let mut probes: Vec<Option<EndpointProbe>> = vec![None; addresses.len()];
    let mut waiting = addresses.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        for (place, address) in waiting.by_ref().take(AT_ONCE - under_way.len()) {
            let (live, limit) = (Arc::clone(&live), options.connect_timeout);
            under_way.spawn_local(async move { (place, probe_endpoint(&live, address, limit).await) });
        }
        match under_way.join_next().await {
            Some(Ok((place, probe))) => probes[place] = Some(probe),
            Some(Err(error)) => {
                // Nobody aborts these tasks, so it is a panic, which must not look like an endpoint less.
                if let Ok(panic) = error.try_into_panic() {
                    resume_unwind(panic);
                }
            }
            None => break,
        }
    }
    probes.into_iter().flatten().collect()
}

async fn addresses(
    identity: &Identity,
    endpoints: &EndpointTable,
    options: ProbeOptions,
) -> Result<Vec<SocketAddr>, Failure> {
    let addresses = match &identity.resolve {
        Resolve::Fixed(addresses) => addresses.to_vec(),
        Resolve::Service(key) => endpoints.addresses(key).to_vec(),
        Resolve::Dns(name) => {
            let deadline = Instant::now() + options.connect_timeout;
            sockets(&Rc::new(Dns::new()).resolve(name, deadline).await?, identity.port)
        }
    };
    if addresses.is_empty() {
        return Err(Failure {
            reason: Reason::NoEndpoints,
            message: "the service has no ready endpoints".to_owned(),
            remedy: "check that its pods are ready and that its selector and port match them".to_owned(),
        });
    }
    Ok(addresses)
}

async fn probe_endpoint(live: &LiveUpstream, address: SocketAddr, limit: Duration) -> EndpointProbe {
    let endpoint = live.endpoint(address);
    let deadline = Instant::now() + limit;
    let dialled = live.dial(&endpoint, Wanted::Configured, deadline, limit).await;
    let (report, failure, evidence) = match dialled {
        Ok(connected) => outcome(live, connected).await,
        Err(error) => (error.report, Some(error.failure), error.evidence),
    };
    let verdicts = match (evidence, &live.identity.tls) {
        (Some(evidence), Some(settings)) => evidence.verdicts(settings, SystemTime::now()),
        _ => Vec::new(),
    };
    EndpointProbe {
        address: Some(address),
        report,
        failure,
        verdicts,
    }
}

/// What became of a connection that stood.
async fn outcome(
    live: &LiveUpstream,
    mut connected: Connected,
) -> (Option<HandshakeReport>, Option<Failure>, Option<Evidence>) {
    let Some(report) = connected.report.take() else {
        return (None, None, None);
    };
    let failure = match speaks_http2(&live.identity, Wanted::Configured, &connected.alpn) {
        Ok(_) => refusal(&mut connected, &report).await,
        Err(mismatch) => Some(mismatch),
    };
    let report = match &failure {
        Some(failure) => refused(report, failure),
        None => report,
    };
    (Some(report), failure, connected.io.evidence())
}

/// A handshake is over for us before it is for a peer of TLS 1.3, which may yet refuse our certificate (row P16), and
/// before the peer's application has seen anything of it. One that sends neither session tickets nor data does not say
/// that it is content, so it is given only so much time.
async fn refusal(connected: &mut Connected, report: &HandshakeReport) -> Option<Failure> {
    let mut until = Instant::now()
        + if report.client_certificate.requested {
            VERDICT
        } else {
            STAY
        };
    while let Ok(Some(Word::Ticket)) = timeout_at(until.into(), connected.io.next_word()).await {
        until = until.min(Instant::now() + STAY);
    }
    connected.cause.get().cloned()
}
