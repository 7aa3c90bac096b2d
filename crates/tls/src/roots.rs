//! What ends a chain: a configured bundle, the system's roots, or both.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use nuncio_model::{Digest, Roots, TrustBundle};
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use crate::crl::may_sign_lists;
use crate::describe::{parse, sha256};
use crate::interned::Interned;
use crate::issuer::{anchor_fault, path_length};

/// Parsed roots. Shared by everything that trusts the same.
pub(crate) struct Trust {
    /// Those that may issue; what `webpki` is given.
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// Of each anchor, at the same position.
    pub(crate) facts: Vec<AnchorFacts>,
    /// Digests of all configured certificates, CA or not: a peer that shows one of them is trusted for
    /// being it (rows V9, V10).
    members: HashSet<Digest>,
    /// Of the configured certificates, those that may not issue.
    pub(crate) unfit: Vec<Unfit>,
}

/// A configured certificate that may not end a chain.
pub(crate) struct Unfit {
    /// Content of its name.
    pub(crate) subject: Vec<u8>,
    /// Content of its SubjectPublicKeyInfo.
    pub(crate) key: Vec<u8>,
    pub(crate) der: Box<[u8]>,
    /// What is wrong with it.
    pub(crate) why: String,
}

/// What `webpki` does not keep of an anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnchorFacts {
    /// First and last second of its validity; anchors without a certificate are always valid.
    pub(crate) validity: Option<(i64, i64)>,
    /// Its key is RSA of too few bits to verify a signature with.
    pub(crate) weak_key: bool,
    /// Its key usage, where it has one, allows it to sign revocation lists.
    pub(crate) may_sign_lists: bool,
    /// CAs that may follow it.
    pub(crate) path_length: Option<usize>,
    /// The certificate; none where only name and key are known.
    pub(crate) der: Option<Box<[u8]>>,
}

static TRUSTS: Interned<(Option<Digest>, bool), Trust> = Interned::new();

/// The roots of the machine.
struct System {
    certificates: Vec<CertificateDer<'static>>,
    /// `SSL_CERT_FILE` or `SSL_CERT_DIR` says which they are.
    chosen: bool,
}

/// Loaded once, when first needed.
static SYSTEM: LazyLock<System> = LazyLock::new(|| System {
    certificates: rustls_native_certs::load_native_certs().certs,
    chosen: ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some()),
});

impl Trust {
    /// The parsed form of `roots`.
    pub(crate) fn of(roots: &Roots) -> Arc<Self> {
        let key = (roots.bundle.as_ref().map(|bundle| bundle.digest), roots.system);
        let made = TRUSTS.get(key, || Ok::<_, std::convert::Infallible>(Self::parse(roots)));
        match made {
            Ok(trust) => trust,
            Err(never) => match never {},
        }
    }

    fn parse(roots: &Roots) -> Self {
        let mut trust = Self {
            anchors: Vec::new(),
            facts: Vec::new(),
            members: HashSet::new(),
            unfit: Vec::new(),
        };
        if let Some(bundle) = &roots.bundle {
            trust.add_bundle(bundle);
        }
        if roots.system {
            trust.add_system(&SYSTEM);
        }
        trust
    }

    fn add_bundle(&mut self, bundle: &TrustBundle) {
        for der in &bundle.anchors {
            self.add(der);
        }
    }

    /// The roots of the machine, or Mozilla's as they were when this was built where it has none. Whoever
    /// chose roots that cannot be read did not choose Mozilla's: then there are none.
    fn add_system(&mut self, system: &System) {
        for der in &system.certificates {
            self.add(der);
        }
        if system.certificates.is_empty() && !system.chosen {
            for anchor in webpki_roots::TLS_SERVER_ROOTS {
                self.anchors.push(anchor.clone());
                self.facts.push(AnchorFacts {
                    validity: None,
                    weak_key: false,
                    may_sign_lists: true,
                    path_length: None,
                    der: None,
                });
            }
        }
    }

    fn add(&mut self, der: &[u8]) {
        if !self.members.insert(sha256(&[der])) {
            return;
        }
        let certificate = CertificateDer::from(der);
        let (Ok(anchor), Ok(parsed)) = (anchor_from_trusted_cert(&certificate), parse(der)) else {
            return;
        };
        if let Some(why) = anchor_fault(&parsed) {
            self.unfit.push(Unfit {
                subject: anchor.subject.to_vec(),
                key: anchor.subject_public_key_info.to_vec(),
                der: der.into(),
                why,
            });
            return;
        }
        let validity = parsed.validity();
        self.facts.push(AnchorFacts {
            validity: Some((validity.not_before.timestamp(), validity.not_after.timestamp())),
            weak_key: crate::key::is_weak(&parsed),
            may_sign_lists: may_sign_lists(&parsed),
            path_length: path_length(&parsed),
            der: Some(der.into()),
        });
        self.anchors.push(anchor.to_owned());
    }

    /// Whether this very certificate was configured.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.members.contains(digest)
    }

    /// Facts about the anchors with the name and key of `anchor`; a root that was issued anew with the
    /// same key is there more than once.
    pub(crate) fn facts_of<'a>(
        &'a self,
        anchor: &'a TrustAnchor<'_>,
    ) -> impl Iterator<Item = &'a AnchorFacts> + 'a {
        self.anchors
            .iter()
            .zip(&self.facts)
            .filter_map(move |(known, facts)| {
                let same = known.subject == anchor.subject
                    && known.subject_public_key_info == anchor.subject_public_key_info;
                same.then_some(facts)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_were_chosen_and_cannot_be_read_are_no_others() {
        let anchors_of = |chosen| {
            let mut trust = Trust {
                anchors: Vec::new(),
                facts: Vec::new(),
                members: HashSet::new(),
                unfit: Vec::new(),
            };
            let certificates = Vec::new();
            trust.add_system(&System { certificates, chosen });
            trust.anchors.len()
        };
        assert_eq!(anchors_of(true), 0);
        assert!(anchors_of(false) > 50, "those that the program brings");
    }
}
