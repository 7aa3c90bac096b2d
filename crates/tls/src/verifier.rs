//! What rustls asks during a handshake: is this chain good, is this signature, and which certificate
//! of ours shall be shown.

use std::fmt;
use std::sync::Arc;

use nuncio_model::{Reason, VerifyMode};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, ServerName, UnixTime};

use crate::client::algorithms;
use crate::describe::parse;
use crate::key::{MIN_RSA_BITS, is_weak};
use crate::material::named;
use crate::observe::note;
use crate::verify::{Flaw, Judge};

/// Judges the peer as its mode demands. The signature that proves possession of the key is verified in
/// every mode: without it any mode but `none` would be worth nothing, and `none` could not be logged
/// truthfully.
pub(crate) struct Verifier {
    pub(crate) mode: VerifyMode,
    pub(crate) judge: Judge,
}

impl Verifier {
    /// Whether the mode refuses anything.
    pub(crate) fn refuses(&self) -> bool {
        matches!(self.mode, VerifyMode::Chain | VerifyMode::Full)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({})", self.mode.as_str())
    }
}

impl ServerCertVerifier for Verifier {
    /// The names are those of the settings; the one that rustls hands over is only its SNI.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        note(|observed| observed.chain = chain.map(|der| der.clone().into_owned()).collect());
        // Modes that refuse nothing judge after the handshake, where somebody wants to know.
        if self.refuses() {
            let judgement = self.judge.judge(end_entity, intermediates, now);
            let flaw = judgement.refusal(self.mode).cloned();
            let error = flaw.as_ref().map(Flaw::as_error);
            note(|observed| {
                observed.judgement = Some(judgement);
                observed.flaw = flaw;
            });
            if let Some(error) = error {
                return Err(Error::InvalidCertificate(error));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls12_signature(message, cert, dss, &algorithms()) {
            Err(error) if is_unreadable(&error) => verify_with_key_of(message, cert, dss).ok_or(error),
            outcome => outcome,
        }
        .inspect_err(|_| note(|observed| observed.flaw = Some(bad_signature(cert))))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, cert, dss, &algorithms()) {
            Err(error) if is_unreadable(&error) => verify_with_key_of(message, cert, dss).ok_or(error),
            outcome => outcome,
        }
        .inspect_err(|_| note(|observed| observed.flaw = Some(bad_signature(cert))))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The peer did not prove that it holds the key of its certificate, or with a key that is too weak to
/// prove anything (row V15).
fn bad_signature(cert: &CertificateDer<'_>) -> Flaw {
    weak_key(cert).unwrap_or_else(|| Flaw {
        reason: Reason::BadCertificate,
        message: format!(
            "the upstream did not prove that it holds the key of {}: its signature of the handshake does not verify",
            named(cert)
        ),
    })
}

/// Why no mode accepts a peer with a key as weak as this.
pub(crate) fn weak_key(cert: &CertificateDer<'_>) -> Option<Flaw> {
    let weak = parse(cert).is_ok_and(|certificate| is_weak(&certificate));
    weak.then(|| Flaw {
        reason: Reason::BadSignatureAlgorithm,
        message: format!(
            "{} has an RSA key of fewer than {MIN_RSA_BITS} bits, and its signatures are not accepted",
            named(cert)
        ),
    })
}

/// Whether the certificate, and not the signature, was the trouble.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::BadEncoding
                | CertificateError::UnhandledCriticalExtension
                | CertificateError::Other(_)
        )
    )
}

/// Verifies with the bare key of a certificate that `webpki` does not read, such as one of version 1
/// (row V15). It gets here only where the mode, or the configured certificate itself, let it through.
fn verify_with_key_of(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Option<HandshakeSignatureValid> {
    let certificate = parse(cert).ok()?;
    let key = certificate.public_key();
    let candidates = algorithms()
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)?
        .1;
    candidates
        .iter()
        .filter(|algorithm| is_identified(key.raw, algorithm.public_key_alg_id()))
        .any(|algorithm| {
            algorithm
                .verify_signature(&key.subject_public_key.data, message, dss.signature())
                .is_ok()
        })
        .then(HandshakeSignatureValid::assertion)
}

/// Whether a SubjectPublicKeyInfo is for a key of this algorithm: its AlgorithmIdentifier has the
/// content that `id` lists.
fn is_identified(spki: &[u8], id: AlgorithmIdentifier) -> bool {
    use x509_parser::asn1_rs::{FromDer, Sequence};
    let Ok((_, outer)) = Sequence::from_der(spki) else {
        return false;
    };
    Sequence::from_der(&outer.content).is_ok_and(|(_, found)| found.content.as_ref() == id.as_ref())
}

/// Shows the client certificate, where there is one, to whoever asks: upstreams are configured, not
/// discovered, so the list of CAs that they may send is not looked at.
pub(crate) struct Shown {
    pub(crate) key: Option<Arc<CertifiedKey>>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_some() {
            "Shown(a certificate)"
        } else {
            "Shown(none)"
        })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = self
            .key
            .as_ref()
            .filter(|key| key.key.choose_scheme(schemes).is_some());
        note(|observed| {
            observed.requested = true;
            observed.sent = usable.is_some();
        });
        usable.cloned()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}
