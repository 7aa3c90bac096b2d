//! A folder with the certificates that a test's programs are given, as files: foreign programs read nothing else.

use std::path::Path;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_RSA_SHA256};
use tempfile::TempDir;

use super::Result;
use crate::support::certificates::{Certificates, Identity, leaf};

/// The name in the upstream's certificate.
pub(super) const NAME: &str = "upstream.test";

/// Certificates in PEM files, and room for configuration.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    /// `ca.pem` signs `server.pem` (with `server.key`, together in `server.both`) and `client.pem`;
    /// `rsa.pem` is a server certificate with an RSA key; `other-ca.pem` signs `stranger.pem`.
    pub(super) fn new() -> Result<Self> {
        let files = Self {
            folder: tempfile::Builder::new().prefix("nuncio-peers-").tempdir()?,
        };
        let (ca, other) = (Certificates::named("peers CA"), Certificates::named("other CA"));
        files.write("ca.pem", &ca.pem())?;
        files.write("other-ca.pem", &other.pem())?;
        files.identity("server", &ca.server(&[NAME]))?;
        files.identity("client", &ca.client("client"))?;
        files.identity("stranger", &other.client("stranger"))?;
        let mut rsa = leaf("rsa", &[NAME]);
        rsa.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        files.identity(
            "rsa",
            &ca.issue_for(&rsa, &KeyPair::generate_for(&PKCS_RSA_SHA256)?),
        )?;
        Ok(files)
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a file and gives back its path.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<String> {
        std::fs::write(self.folder.path().join(name), content)?;
        Ok(self.path(name))
    }

    fn identity(&self, name: &str, identity: &Identity) -> Result {
        self.write(&format!("{name}.pem"), &identity.chain)?;
        self.write(&format!("{name}.key"), &identity.key)?;
        // HAProxy reads both from one file.
        self.write(
            &format!("{name}.both"),
            &format!("{}{}", identity.chain, identity.key),
        )?;
        Ok(())
    }
}
