//! Why a handshake failed: rustls' errors and what was seen, as one reason of the closed set with a
//! sentence. The advice that goes with each stands in `remedy`.

use std::sync::Arc;

use nuncio_model::{Alert, Failure, Reason, TlsSettings, TlsVersion};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::Closed;
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
        Error::AlertReceived(alert) => of_alert(*alert, seen, settings),
        Error::InvalidCertificate(error) => of_certificate(error, seen),
        Error::PeerIncompatible(what) => of_incompatibility(what),
        Error::PeerMisbehaved(what) => of_misbehaviour(what, seen),
        Error::InvalidMessage(what) => of_message(what, seen, first_bytes),
        Error::NoApplicationProtocol => flaw(
            Reason::AlpnMismatch,
            "the upstream negotiated no application protocol",
        ),
        Error::NoCertificatesPresented => flaw(Reason::BadCertificate, "the upstream sent no certificate"),
        _ if !first_bytes.is_empty() && !is_tls(first_bytes) => not_tls(first_bytes),
        other => protocol_broken(&other.to_string(), seen),
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
        protocol_broken("a message of more than 64 KiB", seen)
    };
    with_remedy(flaw, seen, settings, first_bytes)
}

/// Whether the first record begins with a ServerHello of a length that there may be.
fn is_server_hello(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [22, 3, _, _, _, 2, 0, 0..=0x3f, ..])
}

/// What it means that a connection ended while its handshake went on.
pub(crate) fn of_closed(how: Closed, seen: &Seen, settings: &TlsSettings, first_bytes: &[u8]) -> Failure {
    let flaw = match how {
        // Whatever ended it: what does not speak TLS will not learn it.
        _ if !first_bytes.is_empty() && !is_tls(first_bytes) => not_tls(first_bytes),
        Closed::Timeout => flaw(
            Reason::HandshakeTimeout,
            match (seen.version, first_bytes.is_empty()) {
                (None, true) => {
                    "the upstream accepted the connection and did not answer the TLS hello in time"
                }
                (None, false) => "the upstream began to answer the TLS hello and did not finish in time",
                (Some(_), _) => "the upstream stopped in the middle of the TLS handshake",
            },
        ),
        Closed::Eof => reset("closed the connection", seen),
        Closed::Reset => reset("reset the connection", seen),
        Closed::Io(kind) => reset(&format!("was lost ({kind})"), seen),
    };
    with_remedy(flaw, seen, settings, first_bytes)
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
    Failure {
        reason: Reason::TlsConfigUnresolved,
        message: format!("a TLS handshake cannot be started with these settings: {error}"),
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

fn of_alert(description: AlertDescription, seen: &Seen, settings: &TlsSettings) -> Flaw {
    use AlertDescription as A;
    let alert = known(description);
    let name = alert.name();
    let before_hello = seen.version.is_none();
    let (reason, message) = match description {
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
    Flaw {
        reason,
        message: format!("{message} (alert `{name}`)"),
    }
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
    let names: Vec<&str> = settings.alpn.iter().map(|alpn| alpn.as_str()).collect();
    names.join(", ")
}

fn of_certificate(error: &CertificateError, seen: &Seen) -> Flaw {
    match &seen.flaw {
        Some(flaw) => flaw.clone(),
        None => Flaw {
            reason: Reason::BadCertificate,
            message: format!("the upstream's certificate cannot be used: {error}"),
        },
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
            message: format!("the upstream lacks something that TLS needs here: {other:?}"),
        },
    }
}

fn of_misbehaviour(what: &PeerMisbehaved, seen: &Seen) -> Flaw {
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
        M::SelectedUnofferedKxGroup
        | M::IllegalHelloRetryRequestWithUnofferedNamedGroup
        | M::WrongGroupForKeyShare => flaw(
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
        other => protocol_broken(&format!("{other:?}"), seen),
    }
}

fn of_message(what: &InvalidMessage, seen: &Seen, first_bytes: &[u8]) -> Flaw {
    match what {
        _ if seen.version.is_none() && !first_bytes.is_empty() && !is_tls(first_bytes) => {
            not_tls(first_bytes)
        }
        InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion
            if seen.version.is_none() =>
        {
            flaw(Reason::NotTls, "the upstream does not speak TLS on this port")
        }
        InvalidMessage::UnsupportedCurveType => flaw(
            Reason::NoSharedGroup,
            "the upstream chose a kind of key-exchange group that is not spoken",
        ),
        InvalidMessage::UnsupportedKeyExchangeAlgorithm(_) | InvalidMessage::MissingKeyExchange => flaw(
            Reason::NoSharedCipher,
            "the upstream chose a kind of key exchange that is not spoken",
        ),
        other => protocol_broken(&format!("{other:?}"), seen),
    }
}

/// The peer speaks something like TLS and breaks its rules. During the handshake that is as good as not
/// speaking it; afterwards it is no answer that could be used.
fn protocol_broken(how: &str, seen: &Seen) -> Flaw {
    let reason = if seen.established {
        Reason::UpstreamProtocolError
    } else {
        Reason::NotTls
    };
    Flaw {
        reason,
        message: format!("the upstream broke the rules of TLS: {how}"),
    }
}

fn reset(how: &str, seen: &Seen) -> Flaw {
    let when = match seen.version {
        None => "before it answered the TLS hello",
        Some(_) if seen.certificate_requested && !seen.certificate_sent => {
            "after it had asked for a client certificate and got none"
        }
        Some(_) if seen.certificate_sent => "after it had been sent the client certificate",
        Some(_) => "in the middle of the TLS handshake",
    };
    let subject = if how.starts_with("was") {
        "the connection to the upstream"
    } else {
        "the upstream"
    };
    Flaw {
        reason: Reason::ResetDuringHandshake,
        message: format!("{subject} {how} {when}, without an alert"),
    }
}

/// Bytes of a peer that does not speak TLS which a message shows.
const SHOWN_BYTES: usize = 32;

fn not_tls(first_bytes: &[u8]) -> Flaw {
    let shown: String = first_bytes
        .iter()
        .take(SHOWN_BYTES)
        .map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        })
        .collect();
    Flaw {
        reason: Reason::NotTls,
        message: format!("the upstream does not speak TLS on this port, it answered `{shown}`"),
    }
}

/// Whether bytes may begin a TLS record: one of its content types, then major version 3.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=24] | [20..=24, 3, ..])
}

/// Whether the answer is one of a server for plain HTTP.
pub(crate) fn is_http(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/") || bytes.starts_with(b"<!") || bytes.starts_with(b"<html")
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
mod tests;
