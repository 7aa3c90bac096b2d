//! Certificates as `/api/v1/certificates` shows them.

use std::sync::Arc;

use nuncio_model::{CertificateRole, LoadedCertificate};
use nuncio_tls::describe;

use super::SecretName;

pub(super) fn describe_all(
    chain: &[Vec<u8>],
    role: CertificateRole,
    name: &SecretName,
    key: &str,
) -> Arc<[LoadedCertificate]> {
    let from = format!("Secret {}.{}, {key}", name.name, name.namespace);
    describe_from(chain, role, &from, &name.namespace, &name.name)
}

pub(super) fn describe_file(
    chain: &[Vec<u8>],
    role: CertificateRole,
    path: &str,
) -> Arc<[LoadedCertificate]> {
    describe_from(chain, role, path, "", path)
}

fn describe_from(
    chain: &[Vec<u8>],
    role: CertificateRole,
    from: &str,
    namespace: &str,
    secret: &str,
) -> Arc<[LoadedCertificate]> {
    let (namespace, secret): (Arc<str>, Arc<str>) = (namespace.into(), secret.into());
    chain
        .iter()
        .filter_map(|der| describe(der).ok())
        .map(|info| LoadedCertificate {
            role,
            info: Arc::new(info),
            from: from.into(),
            namespace: Arc::clone(&namespace),
            secret: Arc::clone(&secret),
        })
        .collect()
}
