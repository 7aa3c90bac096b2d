//! Certificate and key: what proves who the gateway is.

use std::sync::Arc;

use nuncio_model::{CertificateRole, ClientIdentity, Problem};
use nuncio_tls::Finding;

use super::contents::{Contents, field_of, first};
use super::shown::{of_file, of_secret};
use super::{Loaded, Materials, Outcome, SecretName, Unusable, in_file, unusable};
use crate::expiry::Shared;
use crate::problems::Problems;

/// Keys of a Secret under which a certificate chain stands (D.4).
pub(super) const CHAIN_KEYS: &[&str] = &["tls.crt", "cert-chain.pem"];

/// Keys of a Secret under which a private key stands (D.4).
pub(super) const PRIVATE_KEYS: &[&str] = &["tls.key", "key.pem"];

impl Materials<'_> {
    /// Certificate and key: `tls.crt` and `tls.key`, or `cert-chain.pem` and `key.pem`.
    pub(crate) fn client(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<ClientIdentity> {
        if let Some(outcome) = self.clients.get(name) {
            return outcome.clone();
        }
        let before = problems.count();
        let outcome = self.load_client(name, problems);
        self.note_noise(name, before, problems);
        self.clients.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_client(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<ClientIdentity> {
        let contents = self.contents(name, problems)?;
        let (chain_key, chain, key) = self.certificate_and_key(&contents, name)?;
        let read = self.known.identity(chain, key, self.now);
        let (text, read) = read.map_err(|error| unusable(name, &error))?;
        let (unfit, findings) = by_purpose(&read.findings);
        self.report(name, chain_key, findings, problems);
        if let Some(object) = self.object(name).filter(|_| !unfit.is_empty()) {
            let mut told = Problems::default();
            told.findings(object, &field_of(object, chain_key), unfit);
            self.unfit.insert(name.clone(), told.found());
        }
        Ok(Loaded {
            text,
            value: Arc::clone(&read.value),
            certificates: of_secret(&read.certificates, CertificateRole::Client, name, chain_key),
        })
    }

    /// What is to be told of a Secret's certificate where it is shown to upstreams.
    pub(crate) fn unfit(&self, name: &SecretName) -> &[Problem] {
        self.unfit.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the Secret holds a certificate and key that clients can be shown.
    pub(crate) fn server(&mut self, name: &SecretName, problems: &mut Problems) -> Result<(), Unusable> {
        if let Some(outcome) = self.servers.get(name) {
            return outcome.clone().map(drop);
        }
        let before = problems.count();
        let outcome = self.load_server(name, problems);
        self.note_noise(name, before, problems);
        self.servers.insert(name.clone(), outcome.clone());
        outcome.map(drop)
    }

    /// The certificates that Hosts name, Secret by Secret.
    pub(crate) fn server_certificates(&self) -> impl Iterator<Item = &Shared> {
        self.servers.values().filter_map(|outcome| outcome.as_ref().ok())
    }

    fn load_server(&mut self, name: &SecretName, problems: &mut Problems) -> Result<Shared, Unusable> {
        let contents = self.contents(name, problems)?;
        let (chain_key, chain, key) = self.certificate_and_key(&contents, name)?;
        let read = self.known.identity(chain, key, self.now);
        let (_, read) = read.map_err(|error| unusable(name, &error))?;
        let (_, findings) = by_purpose(&read.findings);
        self.report(name, chain_key, findings, problems);
        Ok(of_secret(
            &read.certificates,
            CertificateRole::Server,
            name,
            chain_key,
        ))
    }

    /// Certificate and key from files.
    ///
    /// # Errors
    /// Which of the two is at fault, and why.
    pub(crate) fn client_from_files(
        &mut self,
        chain: &str,
        key: &str,
    ) -> Result<(Loaded<ClientIdentity>, Vec<Finding>), (bool, Unusable)> {
        let chain_pem = self.file(chain).map_err(|error| (true, error))?;
        let key_pem = self.file(key).map_err(|error| (false, error))?;
        let read = self.known.identity(chain_pem, key_pem, self.now);
        let (text, read) = read.map_err(|error| (true, in_file(chain, &error)))?;
        let loaded = Loaded {
            text,
            value: Arc::clone(&read.value),
            certificates: of_file(&read.certificates, CertificateRole::Client, chain),
        };
        Ok((loaded, read.findings.clone()))
    }
}

/// What is said of a certificate where it is shown to upstreams, and what is said of it in any case. A server's is not
/// judged by what clients need.
pub(crate) fn by_purpose(findings: &[Finding]) -> (Vec<Finding>, Vec<Finding>) {
    let for_clients = |finding: &Finding| finding.reason == "not_for_clients";
    findings.iter().cloned().partition(for_clients)
}

type Pair<'c> = (&'static str, &'c [u8], &'c [u8]);

impl Materials<'_> {
    /// `tls.crt` and `tls.key`, or Istio's `cert-chain.pem` and `key.pem`; with the key of the first.
    fn certificate_and_key<'c>(
        &self,
        contents: &'c Contents,
        name: &SecretName,
    ) -> Result<Pair<'c>, Unusable> {
        let (chain_key, chain) =
            first(contents, CHAIN_KEYS).ok_or_else(|| self.missing(name, "no certificate", "tls.crt"))?;
        let (_, key) =
            first(contents, PRIVATE_KEYS).ok_or_else(|| self.missing(name, "no private key", "tls.key"))?;
        Ok((chain_key, chain, key))
    }
}
