//! Revocation lists, each checked against the roots that it is to be used with.

use std::sync::Arc;

use nuncio_model::{CrlSet, Roots};

use super::contents::first;
use super::known::Read;
use super::{Materials, Revocations, SecretName, Unusable, in_file, unusable};
use crate::problems::Problems;

/// Keys of a Secret under which a revocation list stands; the second is how old manifests call it (D.4).
const CRL_KEYS: &[&str] = &["crl.pem", "user.key"];

impl Materials<'_> {
    /// The revocation lists of a Secret, checked against the roots that they are to be used with.
    pub(crate) fn crls(
        &mut self,
        name: &SecretName,
        roots: &Roots,
        problems: &mut Problems,
    ) -> Result<Revocations, Unusable> {
        let bundle = roots.bundle.as_ref().map(|bundle| bundle.digest);
        let key = (name.clone(), bundle, roots.system);
        if let Some(outcome) = self.crls.get(&key) {
            return outcome.clone();
        }
        let outcome = self.load_crls(name, roots, problems);
        self.crls.insert(key, outcome.clone());
        outcome
    }

    fn load_crls(
        &mut self,
        name: &SecretName,
        roots: &Roots,
        problems: &mut Problems,
    ) -> Result<Revocations, Unusable> {
        let contents = self.contents(name, problems)?;
        let (_, pem) =
            first(&contents, CRL_KEYS).ok_or_else(|| self.missing(name, "no revocation list", "crl.pem"))?;
        let read = self.known.lists(pem, roots, self.now);
        Ok(Revocations::of(&*read.map_err(|error| unusable(name, &error))?))
    }

    /// The revocation lists of a file, likewise.
    pub(crate) fn crls_from_file(&mut self, path: &str, roots: &Roots) -> Result<Revocations, Unusable> {
        let pem = self.file(path)?;
        let read = self.known.lists(pem, roots, self.now);
        Ok(Revocations::of(&*read.map_err(|error| in_file(path, &error))?))
    }
}

impl Revocations {
    fn of(read: &Read<CrlSet>) -> Self {
        Self {
            set: Arc::clone(&read.value),
            findings: read.findings.clone(),
        }
    }
}
