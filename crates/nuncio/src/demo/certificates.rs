//! A CA, a server certificate and a client certificate, made for one demonstration.

use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Common name of the client certificate; the Secret is called the same.
pub(super) const CLIENT: &str = "self-signed-cert";

/// All as PEM.
pub(super) struct Certificates {
    pub(super) authority: String,
    pub(super) server: String,
    pub(super) server_key: String,
    client: String,
    client_key: String,
}

impl Certificates {
    pub(super) fn new() -> Result<Self, Error> {
        let mut authority = named("nuncio demo CA", &[])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut server = named("nuncio demo upstream", &["example-service", "some-sni-hostname"])?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let mut client = named(CLIENT, &[])?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        Ok(Self {
            server: server.signed_by(&server_key, &authority)?.pem(),
            client: client.signed_by(&client_key, &authority)?.pem(),
            server_key: server_key.serialize_pem(),
            client_key: client_key.serialize_pem(),
            authority: authority.pem(),
        })
    }

    /// The Secret that `advanced.yaml` names, as a manifest.
    pub(super) fn secret(&self) -> String {
        let (certificate, key) = (STANDARD.encode(&self.client), STANDARD.encode(&self.client_key));
        format!(
            "apiVersion: v1\n\
             kind: Secret\n\
             type: kubernetes.io/tls\n\
             metadata:\n  name: {CLIENT}\n\
             data:\n  tls.crt: {certificate}\n  tls.key: {key}\n"
        )
    }

    /// Leaves them in `folder`, for those who want to try curl or openssl with them.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let files = [
            ("ca.crt", &self.authority),
            ("server.crt", &self.server),
            ("server.key", &self.server_key),
            ("client.crt", &self.client),
            ("client.key", &self.client_key),
        ];
        for (name, text) in files {
            std::fs::File::create(folder.join(name))?.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams, Error> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
