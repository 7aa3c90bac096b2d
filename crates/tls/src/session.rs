//! Session tickets of one endpoint.
//!
//! One store an endpoint, so a ticket is never shown to anything but the peer it came from under the
//! settings it was made with (rows R10, V19), and so it can be small. rustls resumes only with the very
//! verifier and certificate resolver of the first handshake, which therefore belong to `ClientTls` and
//! outlive each connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// TLS 1.3 tickets that are kept. Each is used once (RFC 8446 appendix C.4); servers send two or so with a
/// full handshake and one with a resumed one, so what several connections that begin together use up comes
/// back only if there is room for all of it.
const TICKETS: usize = 16;

/// The name is always that of the endpoint's settings, so it plays no part.
#[derive(Default)]
pub(crate) struct Sessions {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
    /// Last second for which the certificate that came with them was judged; none where none is asked.
    until: Option<i64>,
}

impl Sessions {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group that the peer chose last.
    pub(crate) fn group(&self) -> Option<NamedGroup> {
        self.kept().group
    }

    /// Whether the next handshake tries to resume a session.
    pub(crate) fn has_ticket(&self) -> bool {
        let kept = self.kept();
        kept.tls12.is_some() || !kept.tls13.is_empty()
    }

    /// Forgets tickets; the group that the peer chose is kept, it is no secret.
    pub(crate) fn forget(&self) {
        let mut kept = self.kept();
        kept.tls12 = None;
        kept.tls13.clear();
    }
}

impl Sessions {
    /// A resumed session brings no certificate, so it may not outlive what was found out about the one
    /// of its first handshake.
    pub(crate) fn keep_until(&self, seconds: i64) {
        self.kept().until = Some(seconds);
    }

    /// Forgets tickets that may not be used at `now` any more: the next handshake is a full one and sees
    /// the certificate that the peer has by then (row R9).
    pub(crate) fn expire(&self, now: i64) {
        let mut kept = self.kept();
        if kept.until.is_some_and(|until| until < now) {
            kept.tls12 = None;
            kept.tls13.clear();
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        if kept.tls13.len() == TICKETS {
            kept.tls13.pop_front();
        }
        kept.tls13.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().tls13.pop_back()
    }
}

/// The same sessions for hellos that are kept small: which group such a hello leads to says nothing of what
/// the peer would choose of all.
#[derive(Debug)]
pub(crate) struct WithoutHint(pub(crate) Arc<Sessions>);

impl ClientSessionStore for WithoutHint {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.0.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

impl fmt::Debug for Sessions {
    /// Tickets are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(..)")
    }
}
