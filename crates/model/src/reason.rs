//! Why a request failed: the closed set that logs, metrics, the API and `x-nuncio-reason` share.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $code:literal, $status:literal, $flag:literal;)*) => {
        /// A failure reason. `AlertReceived` carries the alert's name from the closed set of TLS alerts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// Any TLS alert that has no reason of its own.
            AlertReceived(Alert),
        }

        impl Reason {
            /// Every reason but the alerts.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code that users see.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::AlertReceived(alert) => alert.code(),
                }
            }

            /// The status the client gets.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::AlertReceived(_) => 503,
                }
            }

            /// The response flag of the access log, as Envoy's users know them.
            pub fn flag(self) -> &'static str {
                match self {
                    $(Self::$variant => $flag,)*
                    Self::AlertReceived(_) => "UF",
                }
            }
        }
    };
}

reasons! {
    /// The Mapping names a TLSContext, Secret, CA or CRL that is missing or unusable.
    TlsConfigUnresolved => "tls_config_unresolved", 503, "UF";
    /// The `service` string cannot be used.
    ServiceInvalid => "service_invalid", 503, "UF";
    /// The name did not resolve.
    DnsFailed => "dns_failed", 503, "UF";
    /// Nothing listens there.
    ConnectRefused => "connect_refused", 503, "UF";
    /// TCP did not connect in time.
    ConnectTimeout => "connect_timeout", 503, "UF";
    /// No route to the address.
    ConnectUnreachable => "connect_unreachable", 503, "UF";
    /// The service has no endpoints.
    NoEndpoints => "no_endpoints", 503, "UH";
    /// TCP stood, TLS did not finish in time.
    HandshakeTimeout => "handshake_timeout", 503, "UF";
    /// The peer does not speak TLS.
    NotTls => "not_tls", 503, "UF";
    /// The peer speaks TLS and breaks its rules.
    TlsProtocolError => "tls_protocol_error", 503, "UF";
    /// Closed or reset during the handshake without an alert.
    ResetDuringHandshake => "reset_during_handshake", 503, "UF";
    /// No TLS version in common.
    ProtocolVersion => "protocol_version", 503, "UF";
    /// No cipher suite in common.
    NoSharedCipher => "no_shared_cipher", 503, "UF";
    /// No key-exchange group in common.
    NoSharedGroup => "no_shared_group", 503, "UF";
    /// ALPN gave a protocol that cannot be spoken here.
    AlpnMismatch => "alpn_mismatch", 503, "UF";
    /// The peer wanted to renegotiate.
    RenegotiationUnsupported => "renegotiation_unsupported", 503, "UF";
    /// The chain ends at no configured CA.
    UnknownIssuer => "unknown_issuer", 503, "UF";
    /// A certificate is past its end.
    Expired => "expired", 503, "UF";
    /// A certificate's time has not begun.
    NotYetValid => "not_yet_valid", 503, "UF";
    /// No name in the certificate is the one asked for.
    NameMismatch => "name_mismatch", 503, "UF";
    /// A CRL lists the certificate.
    Revoked => "revoked", 503, "UF";
    /// The CRL is past its next update.
    CrlExpired => "crl_expired", 503, "UF";
    /// No CRL covers the certificate.
    CrlUnknown => "crl_unknown", 503, "UF";
    /// The certificate is not meant for servers.
    BadPurpose => "bad_purpose", 503, "UF";
    /// A CA in the chain may not issue for a name in a certificate below it.
    NameConstraint => "name_constraint", 503, "UF";
    /// An issuer in the chain is no CA, its path length is exceeded, or the anchor may not end a chain.
    BadIssuer => "bad_issuer", 503, "UF";
    /// A signature uses an algorithm that is not accepted.
    BadSignatureAlgorithm => "bad_signature_algorithm", 503, "UF";
    /// The certificate cannot be used for another reason.
    BadCertificate => "bad_certificate", 503, "UF";
    /// No pin matches the key.
    PinMismatch => "pin_mismatch", 503, "UF";
    /// The peer wants a client certificate and none was sent.
    ClientCertRequired => "client_cert_required", 503, "UF";
    /// The peer refused the client certificate.
    ClientCertRejected => "client_cert_rejected", 503, "UF";
    /// The connection died after the request went out.
    ResetBeforeResponse => "reset_before_response", 503, "UC";
    /// What came back is not HTTP.
    UpstreamProtocolError => "upstream_protocol_error", 502, "UPE";
    /// `timeout_ms` ran out.
    ResponseTimeout => "response_timeout", 504, "UT";
    /// A limit on connections, requests or handshakes was reached.
    Overflow => "overflow", 503, "UO";
    /// An AuthService, a policy of filters or an IP rule that guards the request cannot be used.
    FilterUnresolved => "filter_unresolved", 503, "UAEX";
    /// No Mapping matched.
    NoRoute => "no_route", 404, "NR";
}

impl Reason {
    /// Whether a handshake that failed for this reason will fail again as long as neither the upstream nor
    /// the TLS settings nor the certificates' validity change. Nothing of a request was sent before such a
    /// failure, so it may go to another endpoint. What depends on load, on the network or on a state of
    /// the upstream that its alert does not tell is not among these.
    pub fn repeats(self) -> bool {
        match self {
            Self::NotTls
            | Self::TlsProtocolError
            | Self::ProtocolVersion
            | Self::NoSharedCipher
            | Self::NoSharedGroup
            | Self::AlpnMismatch
            | Self::UnknownIssuer
            | Self::Expired
            | Self::NotYetValid
            | Self::NameMismatch
            | Self::Revoked
            | Self::CrlExpired
            | Self::CrlUnknown
            | Self::BadPurpose
            | Self::NameConstraint
            | Self::BadIssuer
            | Self::BadSignatureAlgorithm
            | Self::BadCertificate
            | Self::PinMismatch
            | Self::ClientCertRequired
            | Self::ClientCertRejected => true,
            Self::TlsConfigUnresolved
            | Self::ServiceInvalid
            | Self::DnsFailed
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::NoEndpoints
            | Self::HandshakeTimeout
            | Self::ResetDuringHandshake
            | Self::RenegotiationUnsupported
            | Self::ResetBeforeResponse
            | Self::UpstreamProtocolError
            | Self::ResponseTimeout
            | Self::Overflow
            | Self::FilterUnresolved
            | Self::NoRoute
            | Self::AlertReceived(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

macro_rules! alerts {
    ($($variant:ident => $name:literal;)*) => {
        /// The alerts of RFC 8446 section 6, and `unknown` for any other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are the RFC's")]
        pub enum Alert { $($variant,)* }

        impl Alert {
            /// Every alert.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn code(self) -> &'static str {
                match self { $(Self::$variant => concat!("alert_received:", $name),)* }
            }

            /// The RFC's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

alerts! {
    CloseNotify => "close_notify";
    UnexpectedMessage => "unexpected_message";
    BadRecordMac => "bad_record_mac";
    RecordOverflow => "record_overflow";
    HandshakeFailure => "handshake_failure";
    BadCertificate => "bad_certificate";
    UnsupportedCertificate => "unsupported_certificate";
    CertificateRevoked => "certificate_revoked";
    CertificateExpired => "certificate_expired";
    CertificateUnknown => "certificate_unknown";
    IllegalParameter => "illegal_parameter";
    UnknownCa => "unknown_ca";
    AccessDenied => "access_denied";
    DecodeError => "decode_error";
    DecryptError => "decrypt_error";
    ProtocolVersion => "protocol_version";
    InsufficientSecurity => "insufficient_security";
    InternalError => "internal_error";
    InappropriateFallback => "inappropriate_fallback";
    UserCanceled => "user_canceled";
    NoRenegotiation => "no_renegotiation";
    MissingExtension => "missing_extension";
    UnsupportedExtension => "unsupported_extension";
    UnrecognizedName => "unrecognized_name";
    BadCertificateStatusResponse => "bad_certificate_status_response";
    UnknownPskIdentity => "unknown_psk_identity";
    CertificateRequired => "certificate_required";
    NoApplicationProtocol => "no_application_protocol";
    Unknown => "unknown";
}

/// A failure with everything that the operator should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the closed set.
    pub reason: Reason,
    /// One sentence: what happened, with names, times and what the peer sent.
    pub message: String,
    /// What to do about it, naming the field to set; empty where nothing helps.
    pub remedy: String,
}
