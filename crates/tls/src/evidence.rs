//! What a peer showed of itself, kept to say what each verification mode makes of it.
//!
//! The verdicts come from the verifier that handshakes use, made anew for each mode, so that what
//! `probe` says about a mode is what the gateway does under it.

use std::time::SystemTime;

use nuncio_model::{Offer, Outcome, Roots, TlsSettings, TlsVersion, Verdict, Verify, VerifyMode};
use rustls::ClientConnection;
use rustls_pki_types::CertificateDer;

use crate::client::verifier;
use crate::failure::of_flaw;
use crate::handshake::unix_time;
use crate::verifier::weak_key;
use crate::verify::Flaw;
use crate::{Seen, describe};

/// The chain of a peer, leaf first, and what is wrong with its proof that the key is its own.
#[derive(Clone, Debug)]
pub struct Evidence {
    chain: Vec<CertificateDer<'static>>,
    unproven: Option<Flaw>,
}

impl Evidence {
    /// Of a peer whose handshake succeeded; none where it showed no certificate.
    pub fn of(connection: &ClientConnection) -> Option<Self> {
        Self::new(connection.peer_certificates()?.to_vec(), None)
    }

    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, unproven: Option<Flaw>) -> Option<Self> {
        let leaf = chain.first()?;
        // A handshake that ended at the chain came to no signature, but this is known beforehand.
        let unproven = unproven.or_else(|| weak_key(leaf));
        Some(Self { chain, unproven })
    }

    /// What each mode says of it at `now`, with the names, roots, revocation lists and pins of `settings`; the
    /// system's roots where those have no CA. Empty where the settings cannot be used.
    pub fn verdicts(&self, settings: &TlsSettings, now: SystemTime) -> Vec<Verdict> {
        VerifyMode::ALL
            .into_iter()
            .filter_map(|mode| self.verdict(&under(settings, mode), now))
            .collect()
    }

    fn verdict(&self, settings: &TlsSettings, now: SystemTime) -> Option<Verdict> {
        let [leaf, intermediates @ ..] = self.chain.as_slice() else {
            return None;
        };
        let mode = settings.verify.mode;
        let judge = verifier(settings).ok()?.judge;
        let judgement = judge.judge(leaf, intermediates, unix_time(now));
        let refusal = judgement.refusal(mode).or(self.unproven.as_ref()).cloned();
        let reported = judgement.finding().filter(|_| mode != VerifyMode::None).cloned();
        let seen = Seen {
            judgement: Some(judgement),
            ..Seen::default()
        };
        let advice = |flaw: &Flaw| of_flaw(flaw, &seen, settings).remedy;
        Some(match (refusal, reported) {
            (Some(flaw), _) => Verdict {
                mode,
                result: Outcome::Failed(flaw.reason),
                reported: None,
                remedy: advice(&flaw),
                message: flaw.message,
            },
            (None, Some(flaw)) => Verdict {
                mode,
                result: Outcome::Ok,
                reported: Some(flaw.reason),
                remedy: advice(&flaw),
                message: format!("lets pass and reports: {}", flaw.message),
            },
            (None, None) => Verdict {
                mode,
                result: Outcome::Ok,
                reported: None,
                remedy: String::new(),
                message: found_good(mode).to_owned(),
            },
        })
    }
}

/// What verdicts judge by: what is configured, else the system's roots, as compiling has it where a mode that
/// refuses is set and no CA is.
pub fn judging_roots(settings: &TlsSettings) -> Roots {
    let mut roots = settings.verify.roots.clone();
    roots.system |= roots.bundle.is_none();
    roots
}

/// The same settings in another mode.
fn under(settings: &TlsSettings, mode: VerifyMode) -> TlsSettings {
    TlsSettings {
        verify: Verify {
            mode,
            roots: judging_roots(settings),
            ..settings.verify.clone()
        },
        ..settings.clone()
    }
}

fn found_good(mode: VerifyMode) -> &'static str {
    match mode {
        VerifyMode::None => "accepts any certificate",
        VerifyMode::Report => "accepts any certificate, and finds nothing wrong with this one",
        VerifyMode::Chain => "the chain ends at a trusted CA; the name is right too",
        VerifyMode::Full => "the chain ends at a trusted CA, and the certificate is for a name looked for",
    }
}

/// What is offered under these settings.
pub fn offer(settings: &TlsSettings) -> Offer {
    let versions = [TlsVersion::V1_2, TlsVersion::V1_3];
    let bounds = settings.min_version..=settings.max_version;
    let leaf = settings.client.as_ref().and_then(|client| client.chain.first());
    Offer {
        versions: versions
            .into_iter()
            .filter(|version| bounds.contains(version))
            .collect(),
        cipher_suites: settings.offered_cipher_suites().collect(),
        groups: settings.offered_groups().to_vec(),
        alpn: settings.offered_alpn().map(str::to_owned).collect(),
        sni: settings.sni.as_deref().map(str::to_owned),
        client_certificate: leaf.and_then(|der| describe(der).ok()),
    }
}

#[cfg(test)]
mod tests;
