//! TLS settings that refuse nothing.

use std::sync::{Arc, LazyLock};

use nuncio_model::{Alpn, AutoSni, Roots, TlsSettings, TlsVersion, Verify, VerifyMode, VerifyName};
use nuncio_tls::ClientTls;

/// For `a.test`; whatever is not set is as it is without a TLSContext.
pub fn lenient() -> TlsSettings {
    TlsSettings {
        sni: Some("a.test".into()),
        auto_sni: AutoSni::default(),
        verify: Verify {
            mode: VerifyMode::None,
            names: [VerifyName::Dns("a.test".into())].into(),
            roots: Roots {
                bundle: None,
                system: false,
            },
            crls: None,
            pins: [].into(),
        },
        client: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: [].into(),
        alpn: [Alpn::Http1].into(),
        foreign_alpn: [].into(),
    }
}

/// The system's roots are parsed once for all who use them at one time, so somebody always has to.
pub fn keep_roots() {
    static KEPT: LazyLock<Arc<ClientTls>> =
        LazyLock::new(|| ClientTls::new(&Arc::new(lenient())).expect("settings that stand here"));
    LazyLock::force(&KEPT);
}
