//! One real connection to each endpoint, with the settings that traffic would have.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nuncio_model::{EndpointTable, Failure, HandshakeReport, Identity, Reason, Resolve, TlsVersion};
use tokio::time::timeout;

use crate::upstream::connector::Connected;
use crate::upstream::dns::Dns;
use crate::upstream::live::{LiveUpstream, Wanted};
use crate::upstream::pool::{refused, sockets, speaks_http2};

/// How long a peer may take to judge our certificate when the handshake is over.
const VERDICT: Duration = Duration::from_secs(1);

/// How to probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeOptions {
    /// For DNS, TCP and TLS of one endpoint together.
    pub connect_timeout: Duration,
}

/// What one endpoint did.
#[derive(Clone, Debug)]
pub struct EndpointProbe {
    /// None where there was no address to try.
    pub address: Option<SocketAddr>,
    /// None for cleartext, and where TLS did not begin.
    pub report: Option<HandshakeReport>,
    /// Why the gateway could not use it.
    pub failure: Option<Failure>,
}

/// Connects once to each endpoint of `identity`, one after the other, by the same code as the gateway.
/// Needs a runtime of tokio's that runs local tasks.
pub async fn probe(
    identity: &Arc<Identity>,
    endpoints: &EndpointTable,
    options: ProbeOptions,
) -> Vec<EndpointProbe> {
    let live = LiveUpstream::new(Arc::clone(identity));
    let addresses = match addresses(identity, endpoints, options).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            return vec![EndpointProbe {
                address: None,
                report: None,
                failure: Some(failure),
            }];
        }
    };
    let mut probes = Vec::new();
    for address in addresses {
        let (report, failure) = probe_endpoint(&live, address, options.connect_timeout).await;
        probes.push(EndpointProbe {
            address: Some(address),
            report,
            failure,
        });
    }
    probes
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

async fn probe_endpoint(
    live: &LiveUpstream,
    address: SocketAddr,
    limit: Duration,
) -> (Option<HandshakeReport>, Option<Failure>) {
    let endpoint = live.endpoint(address);
    let deadline = Instant::now() + limit;
    let mut connected = match live.dial(&endpoint, Wanted::Configured, deadline, limit).await {
        Ok(connected) => connected,
        Err(error) => return (error.report, Some(error.failure)),
    };
    let Some(report) = connected.report.take() else {
        return (None, None);
    };
    let failure = match speaks_http2(&live.identity, Wanted::Configured, connected.alpn) {
        Ok(_) => refusal(&mut connected, &report).await,
        Err(mismatch) => Some(mismatch),
    };
    match failure {
        Some(failure) => (Some(refused(report, &failure)), Some(failure)),
        None => (Some(report), None),
    }
}

/// Under TLS 1.3 a peer judges our certificate when the handshake is over for us (row P16). It says
/// nothing where it is content and sends no session tickets, so it is given only so much time.
async fn refusal(connected: &mut Connected, report: &HandshakeReport) -> Option<Failure> {
    let judged_later = report.version == Some(TlsVersion::V1_3) && report.client_certificate.requested;
    if judged_later {
        let _ = timeout(VERDICT, connected.io.first_record()).await;
    }
    connected.cause.get().cloned()
}
