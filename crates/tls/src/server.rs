//! The side that terminates TLS: the echo upstream, and listeners.

use std::sync::Arc;
use std::time::SystemTime;

use nuncio_model::{Alpn, TlsVersion};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;

use crate::client::{protocol_versions, provider};
use crate::key::signing_key;
use crate::material::identity;
use crate::{MaterialError, trust_bundle};

/// A server configuration from PEM.
///
/// With `client_ca`, clients are asked for a certificate by one of those CAs; with `require`, a client
/// without one is refused. A certificate that does not verify is refused either way. `min` must not
/// be above `max`. Fails for the reasons of [`crate::client_identity`] and [`trust_bundle`].
pub fn server_config(
    chain_pem: &[u8],
    key_pem: &[u8],
    client_ca: Option<&[u8]>,
    require: bool,
    alpn: &[Alpn],
    min: TlsVersion,
    max: TlsVersion,
) -> Result<Arc<ServerConfig>, MaterialError> {
    let (identity, _) = identity(chain_pem, key_pem, SystemTime::now())?;
    let chain = identity.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = CertifiedKey::new(chain, signing_key(&identity.key)?);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(protocol_versions(min, max)?)
        .map_err(|_| bad_settings("no cipher suite fits the versions"))?;
    let builder = match client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca, require)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = alpn
        .iter()
        .map(|protocol| protocol.as_str().as_bytes().to_vec())
        .collect();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
        .map_err(|_| bad_settings("the system gives no random bytes for tickets"))?;
    Ok(Arc::new(config))
}

fn client_verifier(ca_pem: &[u8], require: bool) -> Result<Arc<dyn ClientCertVerifier>, MaterialError> {
    let (bundle, _) = trust_bundle(ca_pem, SystemTime::now())?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(bundle.anchors.into_iter().map(CertificateDer::from));
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if require {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map_err(|_| MaterialError {
        reason: "no_certificate",
        message: "clients cannot be verified, because no certificate of the CA file can be a root".to_owned(),
    })
}

fn bad_settings(why: &str) -> MaterialError {
    MaterialError {
        reason: "bad_settings",
        message: format!("TLS cannot be set up, because {why}"),
    }
}
