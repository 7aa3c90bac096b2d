//! CAs: whom the gateway believes (decision 11).

use std::sync::Arc;

use nuncio_model::{CertificateRole, TrustBundle};
use nuncio_tls::{Finding, is_ca};

use super::contents::{field_of, first};
use super::directory;
use super::identity::CHAIN_KEYS;
use super::shown::{of_file, of_secret};
use super::{Loaded, Materials, Outcome, SecretName, Unusable, in_file, unusable};
use crate::problems::Problems;

/// Keys of a Secret under which a CA stands beside what may be a leaf (decision 11).
pub(super) const CA_KEYS: &[&str] = &["ca.crt", "root-cert.pem", "cacert"];

impl Materials<'_> {
    /// The CA of a Secret that is named as one (decision 11).
    pub(crate) fn authority(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<TrustBundle> {
        if let Some(outcome) = self.authorities.get(name) {
            return outcome.clone();
        }
        let before = problems.count();
        let outcome = self.load_authority(name, problems);
        self.note_noise(name, before, problems);
        self.authorities.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_authority(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<TrustBundle> {
        let contents = self.contents(name, problems)?;
        if self.is_directory(name) {
            let pem = self.directory_root(name)?;
            return self.bundle(name, directory::ROOT, &pem, problems);
        }
        let leaf = first(&contents, CHAIN_KEYS);
        let beside = first(&contents, CA_KEYS);
        let (key, pem) = match (leaf, beside) {
            (None, None) => return Err(self.missing(name, "no CA certificate", "ca.crt")),
            (Some(only), None) | (None, Some(only)) => only,
            (Some(leaf), Some(beside)) => {
                let chosen = if holds_ca(leaf.1) { leaf } else { beside };
                if leaf.1 != beside.1 {
                    self.tell_choice(name, leaf.0, beside.0, chosen.0, problems);
                }
                chosen
            }
        };
        self.bundle(name, key, pem, problems)
    }

    /// `root-cert.pem` of a Secret that is named for its certificate and key: Istio puts the CA of the
    /// other side there (D.4).
    pub(crate) fn root(
        &mut self,
        name: &SecretName,
        problems: &mut Problems,
    ) -> Option<Outcome<TrustBundle>> {
        if let Some(outcome) = self.roots.get(name) {
            return outcome.clone();
        }
        let before = problems.count();
        let contents = self.contents(name, problems).ok()?;
        if self.is_directory(name) {
            return None;
        }
        let outcome = contents
            .get("root-cert.pem")
            .map(|pem| self.bundle(name, "root-cert.pem", pem, problems));
        self.note_noise(name, before, problems);
        self.roots.insert(name.clone(), outcome.clone());
        outcome
    }

    fn bundle(
        &mut self,
        name: &SecretName,
        key: &str,
        pem: &[u8],
        problems: &mut Problems,
    ) -> Outcome<TrustBundle> {
        let read = self.known.bundle(pem, self.now);
        let (text, read) = read.map_err(|error| unusable(name, &error))?;
        self.report(name, key, read.findings.clone(), problems);
        Ok(Loaded {
            text,
            value: Arc::clone(&read.value),
            certificates: of_secret(&read.certificates, CertificateRole::Ca, name, key),
        })
    }

    /// A CA from a file.
    pub(crate) fn authority_from_file(
        &mut self,
        path: &str,
    ) -> Result<(Loaded<TrustBundle>, Vec<Finding>), Unusable> {
        let pem = self.file(path)?;
        let read = self.known.bundle(pem, self.now);
        let (text, read) = read.map_err(|error| in_file(path, &error))?;
        let loaded = Loaded {
            text,
            value: Arc::clone(&read.value),
            certificates: of_file(&read.certificates, CertificateRole::Ca, path),
        };
        Ok((loaded, read.findings.clone()))
    }

    fn tell_choice(
        &self,
        name: &SecretName,
        leaf: &str,
        beside: &str,
        chosen: &str,
        problems: &mut Problems,
    ) {
        if let Some(object) = self.object(name) {
            let why = if chosen == leaf {
                "which holds a CA certificate"
            } else {
                "since the other holds no CA certificate"
            };
            let message = format!(
                "of `{leaf}` and `{beside}`, `{chosen}` is the CA, {why}; keep only the one that is meant"
            );
            problems.notice(object, "ca_chosen", &field_of(object, chosen), message);
        }
    }
}

fn holds_ca(pem: &[u8]) -> bool {
    nuncio_tls::certificates(pem)
        .0
        .first()
        .is_some_and(|der| is_ca(der))
}
