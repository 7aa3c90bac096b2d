//! Why a handshake failed: rustls' errors and what was seen, as one reason of the closed set with a
//! sentence. The advice that goes with each stands in `remedy`.

use std::sync::Arc;

use nuncio_model::{Alert, Failure, Reason, TlsSettings, TlsVersion};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::Closed;
use crate::breach::{of_incompatibility as lacks, words};
use crate::foreign::{Foreign, Protocol};
use crate::remedy::remedy;
use crate::verify::{Flaw, Judgement};

/// What was seen of a connection. Kept with it, to explain errors that come later: under TLS 1.3 a
/// peer refuses a client certificate only after the handshake.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The peer asked for a client certificate.
    pub certificate_requested: bool,
    /// It was given one.
    pub certificate_sent: bool,
    /// Negotiated; absent until the peer's hello.
    pub(crate) version: Option<TlsVersion>,
    /// The handshake is over.
    pub(crate) established: bool,
    /// The peer has our certificate, or the message that there is none.
    pub(crate) certificate_answered: bool,
    /// What was found out about the peer's certificate during the handshake.
    pub(crate) judgement: Option<Arc<Judgement>>,
    /// What it was refused for.
    pub(crate) flaw: Option<Flaw>,
}

/// What an error of rustls means on a connection of which this was `seen`. `first_bytes` are the first
/// that the peer sent, where they are known; they show in the message when they are not TLS.
pub fn failure_of(error: &Error, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Failure {
    use InvalidMessage::{CertificatePayloadTooLarge, HandshakePayloadTooLarge};
    if let Error::InvalidMessage(CertificatePayloadTooLarge | HandshakePayloadTooLarge) = error {
        return of_excess(seen, settings, first_bytes);
    }
    let flaw = match error {
        Error::AlertReceived(alert) => of_alert(*alert, seen, settings, first_bytes),
        Error::InvalidCertificate(error) => of_certificate(error, seen),
        Error::PeerIncompatible(what) => of_incompatibility(what),
        Error::PeerMisbehaved(what) => of_misbehaviour(what, error),
        Error::InvalidMessage(what) => of_message(what, error, seen, first_bytes),
        Error::NoApplicationProtocol => flaw(
            Reason::AlpnMismatch,
            "the upstream negotiated no application protocol",
        ),
        Error::NoCertificatesPresented => flaw(Reason::BadCertificate, "the upstream sent no certificate"),
        error => match Foreign::of(first_bytes) {
            Some(foreign) => of_foreign(&foreign),
            None => protocol_broken(error),
        },
    };
    with_remedy(flaw, seen, settings, first_bytes)
}

/// What it means that the peer sent a longer message than is read, which is 64 KiB in rustls. In a handshake
/// only certificates can be so long (row F14).
pub(crate) fn of_excess(seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Failure {
    let flaw = if !seen.established && (seen.version.is_some() || is_server_hello(first_bytes)) {
        flaw(
            Reason::BadCertificate,
            "the upstream sent a certificate chain of about 64 KiB or more, which is not read",
        )
    } else {
        protocol_broken(&Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge))
    };
    with_remedy(flaw, seen, settings, first_bytes)
}

/// Whether the first record begins with a ServerHello of a length that there may be.
fn is_server_hello(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [22, 3, _, _, _, 2, 0, 0..=0x3f, ..])
}

/// What it means that a connection ended while its handshake went on.
pub(crate) fn of_closed(how: Closed, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Failure {
    // Whatever ended it: what does not speak TLS will not learn it.
    let flaw = match Foreign::of(first_bytes) {
        Some(foreign) => of_foreign(&foreign),
        None => of_end(how, seen, first_bytes),
    };
    with_remedy(flaw, seen, settings, first_bytes)
}

fn of_end(how: Closed, seen: &Seen, first_bytes: &[u8]) -> Flaw {
    match how {
        Closed::Timeout => flaw(
            Reason::HandshakeTimeout,
            match (seen.version, first_bytes.is_empty()) {
                (None, true) => {
                    "the upstream accepted the connection and did not answer the ClientHello in time"
                }
                (None, false) => "the upstream began to answer the ClientHello and did not finish in time",
                (Some(_), _) => "the upstream stopped in the middle of the TLS handshake",
            },
        ),
        Closed::Eof | Closed::Reset => refused_in_silence(how, seen)
            .unwrap_or_else(|| reset(&format!("the upstream {}", verb(how)), seen)),
        Closed::Io(kind) => reset(&format!("the connection to the upstream was lost ({kind})"), seen),
    }
}

/// What it means that ALPN gave `got` where only `wanted` can be spoken (row P5).
pub fn alpn_mismatch(wanted: &str, got: Option<&str>, settings: &TlsSettings) -> Failure {
    let got = got.map_or_else(|| "no protocol".to_owned(), |got| format!("`{got}`"));
    let message = format!("the upstream chose {got} by ALPN and `{wanted}` is needed");
    with_remedy(
        Flaw {
            reason: Reason::AlpnMismatch,
            message,
        },
        &Seen::default(),
        settings,
        &[],
    )
}

/// What it means that the peer asked for a new handshake on an established connection (row P17).
pub(crate) fn of_renegotiation(seen: &Seen, settings: &TlsSettings) -> Failure {
    let flaw = flaw(
        Reason::RenegotiationUnsupported,
        "the upstream asked to renegotiate the TLS session, which is not spoken",
    );
    with_remedy(flaw, seen, settings, &[])
}

/// The refusal of a peer for a flaw in its certificate.
pub(crate) fn of_flaw(flaw: &Flaw, seen: &Seen, settings: &TlsSettings) -> Failure {
    with_remedy(flaw.clone(), seen, settings, &[])
}

/// A handshake could not even be started; settings are checked before, so this is rare.
pub(crate) fn unusable(error: &Error) -> Failure {
    let why = match error {
        Error::FailedToGetRandomBytes => "the system gives no random bytes",
        _ => "its versions, cipher suites and groups do not go together",
    };
    Failure {
        reason: Reason::TlsConfigUnresolved,
        message: format!("a TLS handshake cannot be started with these settings: {why}"),
        remedy: String::new(),
    }
}

fn with_remedy(flaw: Flaw, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Failure {
    Failure {
        remedy: remedy(flaw.reason, seen, settings, first_bytes),
        reason: flaw.reason,
        message: flaw.message,
    }
}

fn flaw(reason: Reason, message: &str) -> Flaw {
    Flaw {
        reason,
        message: message.to_owned(),
    }
}

fn of_alert(description: AlertDescription, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Flaw {
    use AlertDescription as A;
    let alert = known(description);
    let before_hello = seen.version.is_none();
    let (reason, message) = match description {
        _ if before_hello && is_ssl3(first_bytes) => (
            Reason::ProtocolVersion,
            "the upstream answered in SSL 3.0, which is not supported".to_owned(),
        ),
        A::ProtocolVersion => (
            Reason::ProtocolVersion,
            format!(
                "the upstream speaks none of the offered versions, {}",
                offered_versions(settings)
            ),
        ),
        A::NoApplicationProtocol => (
            Reason::AlpnMismatch,
            format!(
                "the upstream speaks none of the offered protocols, {}",
                offered_alpn(settings)
            ),
        ),
        A::HandshakeFailure | A::InsufficientSecurity if before_hello => (
            nothing_shared(settings),
            "the upstream found no cipher suite, key-exchange group or signature algorithm in common"
                .to_owned(),
        ),
        A::CertificateRequired => (
            Reason::ClientCertRequired,
            "the upstream requires a client certificate".to_owned(),
        ),
        _ if !before_hello && seen.certificate_requested && is_about_certificates(description) => {
            if seen.certificate_sent {
                (
                    Reason::ClientCertRejected,
                    "the upstream refused the client certificate".to_owned(),
                )
            } else {
                (
                    Reason::ClientCertRequired,
                    "the upstream asked for a client certificate, got none and refused the connection"
                        .to_owned(),
                )
            }
        }
        A::NoRenegotiation => (
            Reason::RenegotiationUnsupported,
            "the upstream wanted to renegotiate the TLS session".to_owned(),
        ),
        _ => (
            Reason::AlertReceived(alert),
            "the upstream ended the TLS session".to_owned(),
        ),
    };
    let which = match alert {
        Alert::Unknown => u8::from(description).to_string(),
        named => format!("`{}`", named.name()),
    };
    Flaw {
        reason,
        message: format!("{message} (alert {which})"),
    }
}

/// Whether the first record is of SSL 3.0. Nothing newer sends its version in an answer.
fn is_ssl3(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [20..=24, 3, 0, ..])
}

/// Before the peer's hello a `handshake_failure` says that something is not shared, but not what. Where
/// the user narrowed the groups and left the suites alone, it is the groups.
fn nothing_shared(settings: &TlsSettings) -> Reason {
    if !settings.groups.is_empty() && settings.cipher_suites.is_empty() {
        Reason::NoSharedGroup
    } else {
        Reason::NoSharedCipher
    }
}

/// Alerts with which servers answer a client certificate that they do not like, or its absence.
fn is_about_certificates(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::NoCertificate
            | A::UnknownCA
            | A::CertificateUnknown
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::UnsupportedCertificate
            | A::AccessDenied
            | A::DecryptError
            | A::HandshakeFailure
    )
}

pub(crate) fn offered_versions(settings: &TlsSettings) -> String {
    let (min, max) = (settings.min_version.as_str(), settings.max_version.as_str());
    if min == max {
        format!("only {min}")
    } else {
        format!("{min} to {max}")
    }
}

fn offered_alpn(settings: &TlsSettings) -> String {
    let names: Vec<&str> = settings.offered_alpn().collect();
    names.join(", ")
}

fn of_certificate(error: &CertificateError, seen: &Seen) -> Flaw {
    match &seen.flaw {
        Some(flaw) => flaw.clone(),
        None => Flaw {
            reason: Reason::BadCertificate,
            message: format!("the upstream's certificate {}", unusable_certificate(error)),
        },
    }
}

/// What rustls itself may find wrong with a certificate; chains are judged in `verify`.
fn unusable_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::BadEncoding => "is no valid X.509 certificate",
        CertificateError::UnhandledCriticalExtension => {
            "has an extension that is marked critical and is not supported"
        }
        CertificateError::BadSignature => "does not belong to the key that signed the handshake",
        _ => "cannot be used",
    }
}

fn of_incompatibility(what: &PeerIncompatible) -> Flaw {
    use PeerIncompatible as P;
    match what {
        P::ServerDoesNotSupportTls12Or13 => flaw(
            Reason::ProtocolVersion,
            "the upstream answered with a TLS version below 1.2",
        ),
        P::ServerTlsVersionIsDisabledByOurConfig
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::SupportedVersionsExtensionRequired => flaw(
            Reason::ProtocolVersion,
            "the upstream answered with a TLS version that was not offered",
        ),
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => flaw(
            Reason::NoSharedGroup,
            "the upstream speaks none of the offered key-exchange groups",
        ),
        P::NoCertificateRequestSignatureSchemesInCommon => flaw(
            Reason::BadSignatureAlgorithm,
            "the upstream accepts no signature algorithm that is spoken here for a client certificate",
        ),
        P::NoCipherSuitesInCommon | P::NoSignatureSchemesInCommon => flaw(
            Reason::NoSharedCipher,
            "the upstream speaks none of the offered cipher suites",
        ),
        other => Flaw {
            reason: Reason::NoSharedCipher,
            message: format!(
                "the upstream does not speak the TLS that is needed: {}",
                lacks(other)
            ),
        },
    }
}

fn of_misbehaviour(what: &PeerMisbehaved, error: &Error) -> Flaw {
    use PeerMisbehaved as M;
    match what {
        M::SelectedUnofferedApplicationProtocol => flaw(
            Reason::AlpnMismatch,
            "the upstream chose an application protocol that was not offered",
        ),
        M::SelectedUnofferedCipherSuite
        | M::SelectedUnusableCipherSuiteForVersion
        | M::IllegalHelloRetryRequestWithUnofferedCipherSuite => flaw(
            Reason::NoSharedCipher,
            "the upstream chose a cipher suite that was not offered",
        ),
        M::SelectedUnofferedKxGroup | M::IllegalHelloRetryRequestWithUnofferedNamedGroup => flaw(
            Reason::NoSharedGroup,
            "the upstream chose a key-exchange group that was not offered",
        ),
        M::TooManyRenegotiationRequests => flaw(
            Reason::RenegotiationUnsupported,
            "the upstream keeps asking to renegotiate the TLS session, which is not spoken",
        ),
        M::SignedHandshakeWithUnadvertisedSigScheme | M::SignedKxWithWrongAlgorithm => flaw(
            Reason::BadSignatureAlgorithm,
            "the upstream signed the handshake with an algorithm that was not offered",
        ),
        _ => protocol_broken(error),
    }
}

fn of_message(what: &InvalidMessage, error: &Error, seen: &Seen, first_bytes: &[u8]) -> Flaw {
    if let Some(foreign) = Foreign::of(first_bytes).filter(|_| seen.version.is_none()) {
        return of_foreign(&foreign);
    }
    match what {
        InvalidMessage::UnsupportedCurveType => flaw(
            Reason::NoSharedGroup,
            "the upstream chose a kind of key-exchange group that is not spoken",
        ),
        InvalidMessage::UnsupportedKeyExchangeAlgorithm(_) | InvalidMessage::MissingKeyExchange => flaw(
            Reason::NoSharedCipher,
            "the upstream chose a kind of key exchange that is not spoken",
        ),
        _ => protocol_broken(error),
    }
}

/// The peer speaks TLS and breaks its rules, in the handshake or after it. That is never as good as not
/// speaking TLS: it may be a party on the way that wants TLS to fail.
fn protocol_broken(error: &Error) -> Flaw {
    Flaw {
        reason: Reason::TlsProtocolError,
        message: format!("the upstream broke the rules of TLS: {}", words(error)),
    }
}

fn verb(how: Closed) -> &'static str {
    match how {
        Closed::Reset => "reset the connection",
        _ => "closed the connection",
    }
}

/// What it means that a peer which asked for a client certificate ended the connection without a word
/// about what it got. Servers do that whose TLS library leaves the verdict to the application (rows P15, P16).
fn refused_in_silence(how: Closed, seen: &Seen) -> Option<Flaw> {
    if !seen.certificate_requested || !seen.certificate_answered {
        return None;
    }
    let verb = verb(how);
    Some(if seen.certificate_sent {
        Flaw {
            reason: Reason::ClientCertRejected,
            message: format!(
                "the upstream {verb} when it had been sent the client certificate, without an alert"
            ),
        }
    } else {
        Flaw {
            reason: Reason::ClientCertRequired,
            message: format!(
                "the upstream asked for a client certificate, got none and {verb}, without an alert"
            ),
        }
    })
}

/// The same on a connection that was ready for data and never brought any.
pub(crate) fn of_silence(how: Closed, seen: &Seen, settings: &TlsSettings) -> Option<Failure> {
    refused_in_silence(how, seen).map(|flaw| with_remedy(flaw, seen, settings, &[]))
}

/// What it means that the peer ended a connection as soon as its handshake was over.
pub(crate) fn of_end_at_once(how: Closed, seen: &Seen, settings: &TlsSettings) -> Failure {
    let flaw = Flaw {
        reason: Reason::ResetDuringHandshake,
        message: format!(
            "the upstream {} as soon as the handshake was over, without an alert",
            verb(how)
        ),
    };
    with_remedy(flaw, seen, settings, &[])
}

fn reset(subject_and_verb: &str, seen: &Seen) -> Flaw {
    let when = match seen.version {
        None => "before it answered the ClientHello",
        Some(_) => "in the middle of the TLS handshake",
    };
    Flaw {
        reason: Reason::ResetDuringHandshake,
        message: format!("{subject_and_verb} {when}, without an alert"),
    }
}

fn of_foreign(foreign: &Foreign<'_>) -> Flaw {
    let shown = foreign.shown();
    match foreign.protocol {
        Protocol::Ssl2 => flaw(
            Reason::ProtocolVersion,
            "the upstream answered in SSL 2.0, which is not supported",
        ),
        protocol => Flaw {
            reason: Reason::NotTls,
            message: match protocol.name() {
                Some(name) if !matches!(protocol, Protocol::Http) => {
                    format!("the upstream does not speak TLS on this port but {name}, it answered `{shown}`")
                }
                _ => format!("the upstream does not speak TLS on this port, it answered `{shown}`"),
            },
        },
    }
}

fn known(alert: AlertDescription) -> Alert {
    use AlertDescription as A;
    match alert {
        A::CloseNotify => Alert::CloseNotify,
        A::UnexpectedMessage => Alert::UnexpectedMessage,
        A::BadRecordMac => Alert::BadRecordMac,
        A::RecordOverflow => Alert::RecordOverflow,
        A::HandshakeFailure => Alert::HandshakeFailure,
        A::BadCertificate => Alert::BadCertificate,
        A::UnsupportedCertificate => Alert::UnsupportedCertificate,
        A::CertificateRevoked => Alert::CertificateRevoked,
        A::CertificateExpired => Alert::CertificateExpired,
        A::CertificateUnknown => Alert::CertificateUnknown,
        A::IllegalParameter => Alert::IllegalParameter,
        A::UnknownCA => Alert::UnknownCa,
        A::AccessDenied => Alert::AccessDenied,
        A::DecodeError => Alert::DecodeError,
        A::DecryptError => Alert::DecryptError,
        A::ProtocolVersion => Alert::ProtocolVersion,
        A::InsufficientSecurity => Alert::InsufficientSecurity,
        A::InternalError => Alert::InternalError,
        A::InappropriateFallback => Alert::InappropriateFallback,
        A::UserCanceled => Alert::UserCanceled,
        A::NoRenegotiation => Alert::NoRenegotiation,
        A::MissingExtension => Alert::MissingExtension,
        A::UnsupportedExtension => Alert::UnsupportedExtension,
        A::UnrecognisedName => Alert::UnrecognizedName,
        A::BadCertificateStatusResponse => Alert::BadCertificateStatusResponse,
        A::UnknownPSKIdentity => Alert::UnknownPskIdentity,
        A::CertificateRequired => Alert::CertificateRequired,
        A::NoApplicationProtocol => Alert::NoApplicationProtocol,
        _ => Alert::Unknown,
    }
}

#[cfg(test)]
#[path = "failure/tests.rs"]
pub(crate) mod tests;
