//! Which rule of TLS a peer broke, in words: rustls has only identifiers for it.
//!
//! Identifiers of a library mean nothing to the operator of an upstream and change with its versions, so none of
//! them reaches a message. What rustls adds later falls into the last arm of each function.

use rustls::{ContentType, Error, HandshakeType, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// What the peer did that TLS forbids, to be read after "the upstream broke the rules of TLS: ".
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::InappropriateMessage { expect_types, got_type } => out_of_place(
            &content_name(*got_type),
            expect_types.iter().map(|kind| content_name(*kind)),
        ),
        Error::InappropriateHandshakeMessage {
            got_type: HandshakeType::HelloRetryRequest,
            ..
        } => "it sent a second HelloRetryRequest".to_owned(),
        Error::InappropriateHandshakeMessage { expect_types, got_type } => out_of_place(
            &handshake_name(*got_type),
            expect_types.iter().map(|kind| handshake_name(*kind)),
        ),
        Error::InvalidMessage(what) => of_message(*what),
        Error::PeerMisbehaved(what) => of_misbehaviour(what).to_owned(),
        Error::PeerIncompatible(what) => of_incompatibility(what).to_owned(),
        Error::DecryptError => {
            "it sent a record that cannot be decrypted, so the two sides have other keys or the record was changed \
             on the way"
                .to_owned()
        }
        Error::PeerSentOversizedRecord => {
            "it sent a record of more than 16 KiB, the limit of RFC 8446 section 5.1".to_owned()
        }
        _ => "it sent something that does not fit where the handshake stands".to_owned(),
    }
}

fn out_of_place(got: &str, expected: impl Iterator<Item = String>) -> String {
    let expected: Vec<String> = expected.collect();
    match expected.as_slice() {
        [] => format!("it sent {got} where nothing more may come"),
        expected => format!("it sent {got} where only {} may come", expected.join(" or ")),
    }
}

/// The name in the RFCs; a number where they have none.
fn handshake_name(kind: HandshakeType) -> String {
    match kind {
        HandshakeType::CertificateURL => "a CertificateUrl message".to_owned(),
        kind => match kind.as_str() {
            Some(name) if name.starts_with(['A', 'E', 'I', 'O', 'U']) => format!("an {name} message"),
            Some(name) => format!("a {name} message"),
            None => format!("a handshake message of the unknown type {}", u8::from(kind)),
        },
    }
}

fn content_name(kind: ContentType) -> String {
    match kind {
        ContentType::ChangeCipherSpec => "a ChangeCipherSpec record".to_owned(),
        ContentType::Alert => "an alert".to_owned(),
        ContentType::Handshake => "a handshake record".to_owned(),
        ContentType::ApplicationData => "a record of application data".to_owned(),
        ContentType::Heartbeat => "a heartbeat record".to_owned(),
        other => format!("a record of the unknown type {}", u8::from(other)),
    }
}

fn of_message(what: InvalidMessage) -> String {
    use InvalidMessage as I;
    match what {
        I::InvalidContentType => "it sent a record of a type that TLS does not have".to_owned(),
        I::UnknownProtocolVersion => "it sent a record of a version that TLS does not have".to_owned(),
        I::MessageTooLarge => {
            "it sent a record longer than TLS allows, which is 16 KiB and what encryption adds (RFC 8446 section 5.1)"
                .to_owned()
        }
        I::InvalidEmptyPayload => "it sent an empty record where an empty one is forbidden".to_owned(),
        I::CertificatePayloadTooLarge | I::HandshakePayloadTooLarge => {
            "it sent a message of more than 64 KiB".to_owned()
        }
        I::MessageTooShort | I::MissingData(_) => "it sent a message that ends too early".to_owned(),
        I::TrailingData(_) => "it sent a message with bytes after its end".to_owned(),
        I::InvalidCcs => "it sent a malformed ChangeCipherSpec record".to_owned(),
        I::InvalidKeyUpdate => "it sent a malformed KeyUpdate message".to_owned(),
        I::InvalidCertRequest => "it sent a malformed CertificateRequest message".to_owned(),
        I::InvalidCertificateStatusType => "it sent a certificate status of an unknown type".to_owned(),
        I::InvalidDhParams => "it sent malformed Diffie-Hellman parameters".to_owned(),
        I::NoSignatureSchemes => "it asked for a client certificate and named no signature algorithm".to_owned(),
        I::DuplicateExtension(number) => format!("it sent extension {number} twice in one message"),
        I::UnsupportedCompression => "it chose a compression method, which TLS no longer has".to_owned(),
        I::UnknownHelloRetryRequestExtension => {
            "its HelloRetryRequest has an extension that was not offered".to_owned()
        }
        I::UnknownCertificateExtension => "its Certificate message has an extension that was not offered".to_owned(),
        I::UnexpectedMessage(_) => "it sent a message that has no place in a handshake".to_owned(),
        I::EmptyTicketValue => "it sent an empty session ticket".to_owned(),
        I::IllegalEmptyList(_) => "it sent a list without an entry where one is needed".to_owned(),
        I::IllegalEmptyValue => "it sent an empty value where one is needed".to_owned(),
        _ => "it sent a message that cannot be read".to_owned(),
    }
}

pub(crate) fn of_incompatibility(what: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as P;
    match what {
        P::EcPointsExtensionRequired | P::UncompressedEcPointsRequired | P::NoEcPointFormatsInCommon => {
            "it does not take uncompressed points on elliptic curves"
        }
        P::ExtendedMasterSecretExtensionRequired => {
            "it lacks the extended master secret of RFC 7627, which is required here"
        }
        P::NullCompressionRequired => "it wants compression, which TLS no longer has",
        P::ServerSentHelloRetryRequestWithUnknownExtension => {
            "its HelloRetryRequest has an extension that was not offered"
        }
        P::IncorrectCertificateTypeExtension | P::UnsolicitedCertificateTypeExtension => {
            "it wants certificates of a type that was not offered"
        }
        P::SignatureAlgorithmsExtensionRequired => "it names no signature algorithms",
        P::ServerRejectedEncryptedClientHello(_) => "it refused an encrypted ClientHello",
        _ => "it needs something of TLS that is not supported here",
    }
}

fn of_misbehaviour(what: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as M;
    match what {
        M::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "it answered with TLS 1.2 and marked its random bytes as one that speaks TLS 1.3 (RFC 8446 section 4.1.3), so \
             a party on the way forced the lower version"
        }
        M::InvalidKeyShare => "its key share is no valid key of the group",
        M::WrongGroupForKeyShare => "its key share is for a group for which it was sent none",
        M::MissingKeyShare => "its ServerHello has no key share",
        M::IllegalHelloRetryRequestWithNoChanges => "it sent a HelloRetryRequest that asks for no change",
        M::IllegalHelloRetryRequestWithOfferedGroup => {
            "it sent a HelloRetryRequest for a group whose key share it had already"
        }
        M::IllegalHelloRetryRequestWithEmptyCookie => "it sent a HelloRetryRequest with an empty cookie",
        M::IllegalHelloRetryRequestWithUnsupportedVersion => {
            "it sent a HelloRetryRequest for a version other than TLS 1.3"
        }
        M::IllegalHelloRetryRequestWithWrongSessionId => {
            "it sent a HelloRetryRequest for a session id that is not ours"
        }
        M::DuplicateHelloRetryRequestExtensions => "its HelloRetryRequest has an extension twice",
        M::CipherSuiteDifferedOnRetry | M::SelectedDifferentCipherSuiteAfterRetry => {
            "it chose another cipher suite after its HelloRetryRequest"
        }
        M::ServerEchoedCompatibilitySessionId => "it took up a session id that stands for no session",
        M::SelectedTls12UsingTls13VersionExtension => {
            "it chose TLS 1.2 in the extension that is for TLS 1.3 and later"
        }
        M::SelectedUnofferedCompression => "it chose a compression method that was not offered",
        M::SelectedUnofferedCertCompression | M::InvalidCertCompression => {
            "its certificates are compressed in a way that was not offered or cannot be undone"
        }
        M::SelectedInvalidPsk | M::SelectedUnofferedPsk => "it resumed a session that was not offered",
        M::ResumptionOfferedWithIncompatibleCipherSuite
        | M::ResumptionOfferedWithVariedCipherSuite
        | M::ResumptionOfferedWithVariedEms
        | M::ResumptionAttemptedWithVariedEms
        | M::EarlyDataExtensionWithoutResumption
        | M::EarlyDataOfferedWithVariedCipherSuite => {
            "it resumed a session with other parameters than the session had"
        }
        M::DuplicateServerHelloExtensions => "its ServerHello has an extension twice",
        M::DuplicateEncryptedExtensions => "its EncryptedExtensions have an extension twice",
        M::DuplicateNewSessionTicketExtensions => "its session ticket has an extension twice",
        M::UnsolicitedServerHelloExtension | M::UnexpectedCleartextExtension => {
            "its ServerHello has an extension that was not offered or must be encrypted"
        }
        M::UnsolicitedEncryptedExtension | M::DisallowedEncryptedExtension => {
            "its EncryptedExtensions have an extension that was not offered or is not allowed there"
        }
        M::UnsolicitedCertExtension | M::BadCertChainExtensions | M::UnsolicitedSctList => {
            "its Certificate message has an extension that was not offered"
        }
        M::ServerHelloMustOfferUncompressedEcPoints => {
            "it does not take uncompressed points on elliptic curves, as RFC 8422 requires"
        }
        M::IllegalMiddleboxChangeCipherSpec => "it sent a ChangeCipherSpec record where none may come",
        M::IllegalTlsInnerPlaintext => "it sent an encrypted record without a content type",
        M::MessageInterleavedWithHandshakeMessage => {
            "it sent another record in the middle of a handshake message"
        }
        M::KeyEpochWithPendingFragment => "it changed keys in the middle of a handshake message",
        M::RefusedToFollowHelloRetryRequest => "it sent a second HelloRetryRequest",
        M::TooManyEmptyFragments => "it sent too many empty records in a row",
        M::TooManyKeyUpdateRequests => "it sent too many KeyUpdate messages in a row",
        M::TooManyWarningAlertsReceived => "it sent too many warning alerts",
        M::TooManyRenegotiationRequests => "it sent too many requests to renegotiate",
        M::InvalidMaxEarlyDataSize => "its session ticket has an invalid limit of early data",
        M::HandshakeHashVariedAfterRetry => {
            "it changed the hash of the handshake after its HelloRetryRequest"
        }
        _ => "it sent something that TLS does not allow at this point",
    }
}

#[cfg(test)]
mod tests;
