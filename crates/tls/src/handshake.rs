//! One handshake with an upstream, and what it tells.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nuncio_model::{
    Alpn, ClientCertificateReport, Failure, HandshakeReport, Outcome, TlsSettings, TlsVersion, VerifyReport,
};
use rustls::{ClientConnection, HandshakeKind, IoState, ProtocolVersion};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::client::{group_name, suite_name};
use crate::describe::{rfc3339, unix_seconds};
use crate::failure::{of_closed, of_end_at_once, of_excess, of_flaw, of_renegotiation, of_silence};
use crate::observe::observe;
use crate::session::Sessions;
use crate::verify::{Flaw, Judgement};
use crate::{ClientTls, Evidence, Seen, failure_of};

/// How a connection ended while its handshake went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed its side.
    Eof,
    /// The peer reset the connection.
    Reset,
    /// The time for connecting ran out.
    Timeout,
    /// Another error of the socket.
    Io(io::ErrorKind),
}

/// Of a peer that does not speak TLS, as many bytes are kept as messages show.
const FIRST_BYTES: usize = 32;

/// A handshake that goes on. Whoever owns the socket moves bytes with [`Handshake::read_tls`] and
/// `connection().write_tls()`, calls [`Handshake::process`] after each read, and is done when
/// [`Handshake::is_handshaking`] turns false and nothing waits to be written. After a failure what
/// waits to be written is the alert that tells the peer; write it once before closing.
#[derive(Debug)]
pub struct Handshake {
    connection: ClientConnection,
    tls: Arc<ClientTls>,
    sessions: Arc<Sessions>,
    /// It tries to resume a session.
    resumes: bool,
    seen: Seen,
    first_bytes: Vec<u8>,
    /// The peer's certificates as they were sent, leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// The first cause wins over what follows from it (row F4).
    failure: Option<Failure>,
}

/// What a peer selected by ALPN (RFC 7301), as far as it decides which HTTP is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// No protocol, or one of Istio's names that leave it to the settings.
    Undecided,
    /// A version of HTTP.
    Http(Alpn),
    /// A protocol that is not HTTP, by its name.
    Foreign(String),
}

impl Selected {
    fn of(id: Option<&[u8]>) -> Self {
        match id {
            None => Self::Undecided,
            Some(b"h2") => Self::Http(Alpn::H2),
            Some(b"http/1.1") => Self::Http(Alpn::Http1),
            Some(id) if id == Alpn::ISTIO_H2.as_bytes() => Self::Http(Alpn::H2),
            Some(id) if id.starts_with(b"istio") => Self::Undecided,
            Some(id) => Self::Foreign(String::from_utf8_lossy(id).into_owned()),
        }
    }

    /// The protocol id; none where nothing is decided.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Undecided => None,
            Self::Http(alpn) => Some(alpn.as_str()),
            Self::Foreign(name) => Some(name),
        }
    }
}

/// A connection whose handshake succeeded.
#[derive(Debug)]
pub struct Established {
    /// Ready for data.
    pub connection: ClientConnection,
    /// What ALPN selected.
    pub alpn: Selected,
    /// What was seen, to explain alerts that come later; see [`process_established`].
    pub seen: Seen,
}

impl Handshake {
    pub(crate) fn new(
        connection: ClientConnection,
        tls: &Arc<ClientTls>,
        sessions: &Arc<Sessions>,
        resumes: bool,
    ) -> Self {
        Self {
            connection,
            tls: Arc::clone(tls),
            sessions: Arc::clone(sessions),
            resumes,
            seen: Seen::default(),
            first_bytes: Vec::new(),
            chain: Vec::new(),
            failure: None,
        }
    }

    /// The connection, for what moves its bytes.
    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.connection
    }

    /// Reads from the peer, as `connection().read_tls()` does, and remembers its first bytes for the
    /// case that they are not TLS. Errors are those of `from`.
    pub fn read_tls(&mut self, from: &mut dyn Read) -> io::Result<usize> {
        let read = if self.first_bytes.len() >= FIRST_BYTES {
            self.connection.read_tls(from)
        } else {
            self.connection.read_tls(&mut Remembering {
                from,
                first_bytes: &mut self.first_bytes,
            })
        };
        // No socket speaks of this kind; it is rustls whose buffer is full of one message that has no end.
        let is_full = matches!(&read, Err(error) if error.kind() == io::ErrorKind::InvalidData);
        if is_full && self.is_handshaking() && self.failure.is_none() {
            self.failure = Some(of_excess(&self.seen, self.tls.settings(), &self.first_bytes));
        }
        read
    }

    /// Processes what was read. After a failure it returns the same one again.
    pub fn process(&mut self) -> Result<IoState, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let (outcome, observed) = observe(|| self.connection.process_new_packets());
        self.seen.certificate_requested |= observed.requested;
        self.seen.certificate_sent |= observed.sent;
        if !observed.chain.is_empty() {
            self.chain = observed.chain;
        }
        self.seen.judgement = observed.judgement.or(self.seen.judgement.take());
        self.seen.flaw = observed.flaw.or(self.seen.flaw.take());
        self.seen.version = self.version();
        self.seen.certificate_answered |= self.answers_the_request();
        let outcome = match outcome {
            Ok(state) => self.finished().map(|()| state),
            Err(error) => {
                // What came behind the last message of the handshake, in the same read, is of a session.
                self.seen.established |= !self.connection.is_handshaking();
                Err(failure_of(
                    &error,
                    &self.seen,
                    self.tls.settings(),
                    &self.first_bytes,
                ))
            }
        };
        outcome.inspect_err(|failure| self.failure = Some(failure.clone()))
    }

    /// Whether what waits to be written answers a request for a certificate. Of TLS 1.2 it is the only thing that a
    /// client sends after such a request; of TLS 1.3 it ends the handshake.
    fn answers_the_request(&self) -> bool {
        let of_tls12 = self.seen.version == Some(TlsVersion::V1_2) && self.connection.wants_write();
        self.seen.certificate_requested && (of_tls12 || !self.connection.is_handshaking())
    }

    /// A resumed session brings the certificates of the handshake before, for which rustls does not ask
    /// again, so it is done here. What may be resumed later is bounded by what was found out now.
    fn finished(&mut self) -> Result<(), Failure> {
        if self.connection.is_handshaking() || self.seen.established {
            return Ok(());
        }
        self.seen.established = true;
        // In a full handshake of TLS 1.2 the server has the last word, so this answers another of its words.
        let is_full = self.connection.handshake_kind() == Some(HandshakeKind::Full);
        if self.seen.version == Some(TlsVersion::V1_2) && is_full && self.connection.wants_write() {
            return Err(of_renegotiation(&self.seen, self.tls.settings()));
        }
        if !self.tls.verifier.refuses() {
            return Ok(());
        }
        let settings = self.tls.settings();
        let Some(judgement) = self.judgement(self.tls.now()) else {
            return Ok(());
        };
        match judgement.refusal(settings.verify.mode) {
            Some(flaw) => {
                self.sessions.forget();
                self.connection.send_close_notify();
                let seen = Seen {
                    judgement: Some(Arc::clone(&judgement)),
                    ..self.seen.clone()
                };
                Err(of_flaw(flaw, &seen, settings))
            }
            None => {
                self.sessions.keep_until(judgement.until());
                Ok(())
            }
        }
    }

    /// Whether the peer has said anything; true too of what is no TLS.
    pub fn is_answered(&self) -> bool {
        !self.first_bytes.is_empty()
    }

    /// Whether it tried to resume a session. Then a failure may be about the session alone.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// Whether it is not over yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What it means that the connection ended before the handshake did. `first_bytes` may be empty
    /// where [`Handshake::read_tls`] was used.
    pub fn closed(&self, how: Closed, first_bytes: &[u8]) -> Failure {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let first_bytes = if first_bytes.is_empty() {
            &self.first_bytes
        } else {
            first_bytes
        };
        of_closed(how, &self.seen, self.tls.settings(), first_bytes)
    }

    /// Reports a handshake that succeeded at `now`, having taken `duration`.
    pub fn report_ok(&self, duration: Duration, now: SystemTime) -> HandshakeReport {
        let judgement = self.judgement(unix_time(now));
        let flaw = judgement.as_deref().and_then(Judgement::finding);
        let (message, remedy) = match flaw {
            Some(flaw) => {
                let settings = self.tls.settings();
                let seen = Seen {
                    judgement: judgement.clone(),
                    ..self.seen.clone()
                };
                let advice = of_flaw(flaw, &seen, settings).remedy;
                (
                    format!(
                        "connected; {}{}",
                        self.why_passed(judgement.as_deref()),
                        flaw.message
                    ),
                    advice,
                )
            }
            None => ("connected".to_owned(), String::new()),
        };
        self.report(Outcome::Ok, message, remedy, judgement.as_deref(), duration, now)
    }

    /// Introduces what was found and let pass.
    fn why_passed(&self, judgement: Option<&Judgement>) -> String {
        match judgement.and_then(Judgement::flaw) {
            Some(_) => {
                let mode = self.tls.settings().verify.mode.as_str();
                format!("mode `{mode}` lets pass what `full` would refuse: ")
            }
            // What no mode refuses speaks for itself.
            None => String::new(),
        }
    }

    /// Reports a handshake that failed at `now`, having taken `duration`.
    pub fn report_failed(&self, failure: &Failure, duration: Duration, now: SystemTime) -> HandshakeReport {
        let judgement = self.judgement(unix_time(now));
        self.report(
            Outcome::Failed(failure.reason),
            failure.message.clone(),
            failure.remedy.clone(),
            judgement.as_deref(),
            duration,
            now,
        )
    }

    /// The connection, once the handshake is over.
    pub fn into_connection(self) -> Established {
        let alpn = Selected::of(self.connection.alpn_protocol());
        Established {
            connection: self.connection,
            alpn,
            seen: self.seen,
        }
    }

    fn report(
        &self,
        outcome: Outcome,
        message: String,
        remedy: String,
        judgement: Option<&Judgement>,
        duration: Duration,
        now: SystemTime,
    ) -> HandshakeReport {
        let settings = self.tls.settings();
        let connection = &self.connection;
        HandshakeReport {
            outcome,
            message,
            remedy,
            at: rfc3339(unix_seconds(now)),
            sni: settings.sni.as_deref().map(str::to_owned),
            version: self.version(),
            cipher: connection
                .negotiated_cipher_suite()
                .map(|suite| suite_name(suite.suite())),
            group: connection
                .negotiated_key_exchange_group()
                .map(|group| group_name(group.name())),
            alpn: connection
                .alpn_protocol()
                .map(|id| String::from_utf8_lossy(id).into_owned()),
            resumed: self.is_resumed(),
            hello_retried: self.connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest),
            duration_ms: duration.as_secs_f64() * 1000.0,
            client_certificate: ClientCertificateReport {
                requested: self.seen.certificate_requested,
                sent: self.seen.certificate_sent,
            },
            verify: verify_report(settings, self.unproven(), judgement, outcome),
            peer: judgement
                .map(|judgement| judgement.peer.clone())
                .unwrap_or_default(),
        }
    }

    /// What is to be said of the peer's certificate, once it is known.
    fn judgement(&self, now: UnixTime) -> Option<Arc<Judgement>> {
        let shown = self.connection.peer_certificates().unwrap_or(&self.chain);
        let known = match shown {
            [leaf, intermediates @ ..] => Some(self.tls.verifier.judge.judge(leaf, intermediates, now)),
            [] => None,
        };
        known.or_else(|| self.seen.judgement.clone())
    }

    /// What is wrong with the peer's proof that its key is its own; a refusal for its chain is not.
    fn unproven(&self) -> Option<&Flaw> {
        let mode = self.tls.settings().verify.mode;
        let for_chain = |judgement: &Arc<Judgement>| judgement.refusal(mode).is_some();
        let of_signature = !self.seen.judgement.as_ref().is_some_and(for_chain);
        self.seen.flaw.as_ref().filter(|_| of_signature)
    }

    /// What the peer showed of itself, for other modes to judge; none where it did not come to that.
    pub fn into_evidence(self) -> Option<Evidence> {
        let unproven = self.unproven().cloned();
        Evidence::of(&self.connection).or_else(|| Evidence::new(self.chain, unproven))
    }

    fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn version(&self) -> Option<TlsVersion> {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::V1_2),
            Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::V1_3),
            _ => None,
        }
    }
}

/// Of a peer whose certificate was not seen, the outcome of the handshake stands for that of
/// verification: nothing was verified.
fn verify_report(
    settings: &TlsSettings,
    unproven: Option<&Flaw>,
    judgement: Option<&Judgement>,
    outcome: Outcome,
) -> VerifyReport {
    let result = match judgement {
        _ if unproven.is_some() => outcome,
        Some(judgement) => judgement
            .finding()
            .map_or(Outcome::Ok, |flaw| Outcome::Failed(flaw.reason)),
        None => outcome,
    };
    VerifyReport {
        mode: settings.verify.mode,
        result,
        names: settings.verify.names.iter().map(ToString::to_string).collect(),
    }
}

/// Processes what was read on an established connection. Where `connection.process_new_packets()` gives
/// an error of rustls, this gives its meaning; and it notices a request to renegotiate, which rustls
/// declines without a word (row P17).
pub fn process_established(
    connection: &mut ClientConnection,
    seen: &Seen,
    settings: &TlsSettings,
) -> Result<IoState, Failure> {
    let had_to_write = connection.wants_write();
    let state = connection
        .process_new_packets()
        .map_err(|error| failure_of(&error, seen, settings, &[]))?;
    // Nothing else makes an established TLS 1.2 client write by itself. A peer that closes is answered
    // by whoever owns the connection.
    let answered = !had_to_write && connection.wants_write() && !state.peer_has_closed();
    if answered && seen.version == Some(TlsVersion::V1_2) {
        return Err(of_renegotiation(seen, settings));
    }
    Ok(state)
}

/// Why a peer ended an established connection on which it never sent data: it asked for a client certificate and
/// did not like what it got, or got none. None where it did not ask, or has shown that it is content.
pub fn ended_in_silence(
    how: Closed,
    connection: &ClientConnection,
    seen: &Seen,
    settings: &TlsSettings,
) -> Option<Failure> {
    // Under TLS 1.3 a server that asks for a certificate issues tickets only after it has accepted what it got (RFC
    // 8446 section 4.6.1).
    let accepted = connection.tls13_tickets_received() > 0;
    of_silence(how, seen, settings).filter(|_| !accepted)
}

/// What it means that a peer ended a connection as soon as its handshake was over.
pub fn ended_at_once(
    how: Closed,
    connection: &ClientConnection,
    seen: &Seen,
    settings: &TlsSettings,
) -> Failure {
    ended_in_silence(how, connection, seen, settings).unwrap_or_else(|| of_end_at_once(how, seen, settings))
}

pub(crate) fn unix_time(time: SystemTime) -> UnixTime {
    let seconds = u64::try_from(unix_seconds(time)).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Passes bytes on and keeps the first.
struct Remembering<'a> {
    from: &'a mut dyn Read,
    first_bytes: &'a mut Vec<u8>,
}

impl Read for Remembering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let wanted = FIRST_BYTES.saturating_sub(self.first_bytes.len());
        self.first_bytes.extend(buffer.iter().take(read.min(wanted)));
        Ok(read)
    }
}

#[cfg(test)]
#[path = "handshake/tests.rs"]
mod tests;
