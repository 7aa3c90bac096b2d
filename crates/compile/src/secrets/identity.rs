//! Certificate and key: what proves who the gateway is.

use std::sync::Arc;

use nuncio_model::{CertificateRole, ClientIdentity};
use nuncio_tls::Finding;

use super::contents::{Contents, first};
use super::shown::{of_file, of_secret};
use super::{Loaded, Materials, Outcome, SecretName, Unusable, in_file, missing, unusable};
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
        let (chain_key, chain, key) = certificate_and_key(&contents, name)?;
        let read = self.known.identity(chain, key, self.now);
        let (text, read) = read.map_err(|error| unusable(name, &error))?;
        self.report(name, chain_key, read.findings.clone(), problems);
        Ok(Loaded {
            text,
            value: Arc::clone(&read.value),
            certificates: of_secret(&read.certificates, CertificateRole::Client, name, chain_key),
        })
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
        let (chain_key, chain, key) = certificate_and_key(&contents, name)?;
        let read = self.known.identity(chain, key, self.now);
        let (_, read) = read.map_err(|error| unusable(name, &error))?;
        let mut findings = read.findings.clone();
        findings.retain(|finding| finding.reason != "not_for_clients");
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

type Pair<'c> = (&'static str, &'c [u8], &'c [u8]);

/// `tls.crt` and `tls.key`, or Istio's `cert-chain.pem` and `key.pem`; with the key of the first.
fn certificate_and_key<'c>(contents: &'c Contents, name: &SecretName) -> Result<Pair<'c>, Unusable> {
    let (chain_key, chain) =
        first(contents, CHAIN_KEYS).ok_or_else(|| missing(name, "no certificate", "tls.crt"))?;
    let (_, key) = first(contents, PRIVATE_KEYS).ok_or_else(|| missing(name, "no private key", "tls.key"))?;
    Ok((chain_key, chain, key))
}
