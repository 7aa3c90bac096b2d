//! Certificates as `/api/v1/certificates` shows them.

use std::sync::Arc;

use nuncio_model::{CertificateInfo, CertificateRole, LoadedCertificate};

use super::SecretName;

pub(super) fn of_secret(
    certificates: &[Arc<CertificateInfo>],
    role: CertificateRole,
    name: &SecretName,
    key: &str,
) -> Arc<[LoadedCertificate]> {
    let from = format!("Secret {}.{}, {key}", name.name, name.namespace);
    shown(certificates, role, &from, &name.namespace, &name.name)
}

pub(super) fn of_file(
    certificates: &[Arc<CertificateInfo>],
    role: CertificateRole,
    path: &str,
) -> Arc<[LoadedCertificate]> {
    shown(certificates, role, path, "", path)
}

fn shown(
    certificates: &[Arc<CertificateInfo>],
    role: CertificateRole,
    from: &str,
    namespace: &str,
    secret: &str,
) -> Arc<[LoadedCertificate]> {
    let (namespace, secret): (Arc<str>, Arc<str>) = (namespace.into(), secret.into());
    certificates
        .iter()
        .map(|info| LoadedCertificate {
            role,
            info: Arc::clone(info),
            from: from.into(),
            namespace: Arc::clone(&namespace),
            secret: Arc::clone(&secret),
        })
        .collect()
}
