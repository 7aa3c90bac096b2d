//! When a handshake is counted.
//!
//! Under TLS 1.3 a handshake is over for us before the peer has judged our certificate (rows P15, P16). One
//! in which it was asked for is counted when the first answer comes, or the refusal, or the connection's end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use nuncio_model::{Failure, HandshakeReport, TlsVersion};

use super::super::live::LiveUpstream;

/// The peer's verdict on our certificate.
#[derive(Default)]
pub(super) struct Verdict(Cell<Option<Open>>);

/// It is not known yet.
struct Open {
    live: Arc<LiveUpstream>,
    report: Arc<HandshakeReport>,
}

impl Verdict {
    /// Counts a handshake that went well, as soon as that is certain.
    pub(super) fn new(live: &Arc<LiveUpstream>, report: Option<Arc<HandshakeReport>>) -> Self {
        let Some(report) = report else {
            return Self::default();
        };
        if report.version != Some(TlsVersion::V1_3) || !report.client_certificate.requested {
            live.count_handshake(&report);
            return Self::default();
        }
        let live = Arc::clone(live);
        Self(Cell::new(Some(Open { live, report })))
    }

    /// The peer answers requests, so it is content.
    pub(super) fn accepted(&self) {
        if let Some(open) = self.0.take() {
            open.live.count_handshake(&open.report);
        }
    }

    /// The peer refused us; `report` is what is to be told of the handshake now.
    pub(super) fn refused(&self, address: SocketAddr, failure: &Failure, report: &HandshakeReport) {
        if let Some(open) = self.0.take() {
            open.live.log_failure(address, failure);
            open.live.count_handshake(report);
        }
    }
}

impl Drop for Verdict {
    /// Nothing was heard of the peer: the handshake itself went well.
    fn drop(&mut self) {
        self.accepted();
    }
}
