//! Certificate and key: what proves who the gateway is.

use std::sync::Arc;

use nuncio_model::{CertificateRole, ClientIdentity};
use nuncio_tls::{Finding, client_identity};

use super::contents::{Contents, first};
use super::shown::{describe_all, describe_file};
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
        let outcome = self.load_client(name, problems);
        self.clients.insert(name.clone(), outcome.clone());
        outcome
    }

    fn load_client(&mut self, name: &SecretName, problems: &mut Problems) -> Outcome<ClientIdentity> {
        let contents = self.contents(name, problems)?;
        let (chain_key, chain, key) = certificate_and_key(&contents, name)?;
        let (identity, findings) =
            client_identity(chain, key, self.now).map_err(|error| unusable(name, &error))?;
        self.report(name, chain_key, findings, problems);
        let certificates = describe_all(&identity.chain, CertificateRole::Client, name, chain_key);
        Ok(Loaded {
            value: Arc::new(identity),
            certificates,
        })
    }

    /// Whether the Secret holds a certificate and key that clients can be shown.
    pub(crate) fn server(&mut self, name: &SecretName, problems: &mut Problems) -> Result<(), Unusable> {
        if let Some(outcome) = self.servers.get(name) {
            return outcome.clone().map(drop);
        }
        let outcome = self.load_server(name, problems);
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
        let (identity, mut findings) =
            client_identity(chain, key, self.now).map_err(|error| unusable(name, &error))?;
        findings.retain(|finding| finding.reason != "not_for_clients");
        self.report(name, chain_key, findings, problems);
        Ok(describe_all(
            &identity.chain,
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
        &self,
        chain: &str,
        key: &str,
    ) -> Result<(Loaded<ClientIdentity>, Vec<Finding>), (bool, Unusable)> {
        let chain_pem = self.file(chain).map_err(|error| (true, error))?;
        let key_pem = self.file(key).map_err(|error| (false, error))?;
        let (identity, findings) =
            client_identity(chain_pem, key_pem, self.now).map_err(|error| (true, in_file(chain, &error)))?;
        let certificates = describe_file(&identity.chain, CertificateRole::Client, chain);
        Ok((
            Loaded {
                value: Arc::new(identity),
                certificates,
            },
            findings,
        ))
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
