//! A folder with the certificates that a test's programs are given.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use tempfile::TempDir;

use crate::Result;

/// The name in the upstream's certificate.
pub(crate) const NAME: &str = "upstream.test";

/// Certificates in PEM files, and room for configuration.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    /// `ca.pem` signs `server.pem` (with `server.key`, together in `server.both`) and `client.pem`;
    /// `rsa.pem` is a server certificate with an RSA key; `other-ca.pem` signs `stranger.pem`.
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("nuncio-peers-").tempdir()?;
        let files = Self { folder };
        let ca = files.authority("ca", "Peers CA")?;
        files.leaf(
            "server",
            &ca,
            ExtendedKeyUsagePurpose::ServerAuth,
            &PKCS_ECDSA_P256_SHA256,
        )?;
        files.leaf("rsa", &ca, ExtendedKeyUsagePurpose::ServerAuth, &PKCS_RSA_SHA256)?;
        files.leaf(
            "client",
            &ca,
            ExtendedKeyUsagePurpose::ClientAuth,
            &PKCS_ECDSA_P256_SHA256,
        )?;
        let other = files.authority("other-ca", "Other CA")?;
        files.leaf(
            "stranger",
            &other,
            ExtendedKeyUsagePurpose::ClientAuth,
            &PKCS_ECDSA_P256_SHA256,
        )?;
        Ok(files)
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in it, as configuration wants it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.pem"), &params.self_signed(&key)?.pem())?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(
        &self,
        name: &str,
        ca: &Issuer<'_, KeyPair>,
        purpose: ExtendedKeyUsagePurpose,
        algorithm: &'static SignatureAlgorithm,
    ) -> Result {
        let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate_for(algorithm)?;
        let (chain, key_pem) = (params.signed_by(&key, ca)?.pem(), key.serialize_pem());
        self.write(&format!("{name}.pem"), &chain)?;
        self.write(&format!("{name}.key"), &key_pem)?;
        self.write(&format!("{name}.both"), &format!("{chain}{key_pem}"))?;
        Ok(())
    }
}
