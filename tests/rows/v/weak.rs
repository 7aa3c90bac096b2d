//! Row V15: certificates that no library of today makes any more.
//!
//! Those beside this file were made once with OpenSSL 3.0, to last a hundred years, all three for `leaf.key`:
//!
//! ```text
//! openssl x509 -req -in leaf.csr -CA rsa-1024-ca.pem -CAkey rsa-1024-ca.key -sha256 -extfile ext -out rsa-1024-leaf.pem
//! openssl x509 -req -in leaf.csr -CA strong-ca.pem -CAkey strong-ca.key -sha1 -extfile ext -out sha-1-leaf.pem
//! openssl x509 -req -in leaf.csr -CA strong-ca.pem -CAkey strong-ca.key -sha256 -out version-1-leaf.pem
//! ```

use serde_json::Value;

use super::{assert_nothing_asked, plan};
use crate::support::certificates::{Identity, secret};
use crate::support::peer::Upstream;
use crate::support::program::{finish_beside, mapping, nuncio, tls_context};
use crate::support::refusal::{Refusal, assert_holds};

const STRONG_CA: &str = include_str!("weak/strong-ca.pem");

/// A certificate, its CA, and how it is refused where it is verified.
fn cases() -> [(&'static str, &'static str, Refusal<'static>); 3] {
    [
        (
            include_str!("weak/rsa-1024-leaf.pem"),
            include_str!("weak/rsa-1024-ca.pem"),
            Refusal {
                reason: "bad_signature_algorithm",
                message: &["RSA key of fewer than 2048 bits"],
                remedy: &["2048"],
            },
        ),
        (
            include_str!("weak/sha-1-leaf.pem"),
            STRONG_CA,
            Refusal {
                reason: "bad_signature_algorithm",
                message: &["SHA-1"],
                remedy: &["SHA-256"],
            },
        ),
        (
            include_str!("weak/version-1-leaf.pem"),
            STRONG_CA,
            Refusal {
                reason: "bad_certificate",
                message: &["version 1"],
                remedy: &["version 3"],
            },
        ),
    ]
}

#[tokio::test]
async fn v15_weak_certificates_are_refused_where_they_are_verified() {
    for (leaf, ca, refusal) in cases() {
        let upstream = Upstream::tls(&Identity {
            chain: leaf.to_owned(),
            key: include_str!("weak/leaf.key").to_owned(),
        })
        .await;
        let ca = secret("ca", &[("ca.crt", ca)]);
        let gateway = plan(&upstream, &ca, &["ca_secret: ca"]).start().await;
        refusal.assert_told(&gateway, "m", "/x").await;
        assert_nothing_asked(&upstream).await;

        // Nothing but who it is depends on them: the key that signs the handshake is as strong as any.
        for mode in ["report", "none"] {
            let verify = format!("verify: {{mode: {mode}}}");
            let context = ["ca_secret: ca", verify.as_str()];
            let gateway = plan(&upstream, &ca, &context).start().await;
            gateway.get("/").await.assert_ok();
            let handshake = gateway.last_handshake("m").await;
            assert_eq!(
                (&handshake["outcome"], &handshake["verify"]["mode"]),
                (&"ok".into(), &mode.into()),
                "{handshake:#}"
            );
            // What is wrong with it is told all the same.
            assert_eq!(handshake["verify"]["result"], refusal.reason, "{handshake:#}");
        }
    }
}

/// Whoever asks before the first request learns the same, and which modes would let it pass.
#[tokio::test]
async fn v15_probe_tells_weak_certificates_as_the_gateway_does() {
    for (leaf, ca, refusal) in cases() {
        let upstream = Upstream::tls(&Identity {
            chain: leaf.to_owned(),
            key: include_str!("weak/leaf.key").to_owned(),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let manifests = secret("ca", &[("ca.crt", ca)])
            + &tls_context("ctx", &["ca_secret: ca"])
            + &mapping("m", "/", "https://a.test", &["tls: ctx"]);
        std::fs::write(folder.path().join("manifests.yaml"), manifests).unwrap();
        let resolve = format!("a.test:443:127.0.0.1:{}", upstream.address.port());
        let mut command = nuncio(["probe", "m", "--format", "json", "--resolve", &resolve]);
        command.arg("--config").arg(folder.path());
        let told = finish_beside(command).await;
        let report: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!(
            (told.status, &report["outcome"]),
            (1, &refusal.reason.into()),
            "{report:#}"
        );
        assert_holds(&report["message"], refusal.message);
        assert_holds(&report["remedy"], refusal.remedy);
        let said: Vec<_> = report["verdicts"].as_array().unwrap().iter().collect();
        let said: Vec<_> = said
            .iter()
            .map(|verdict| (&verdict["result"], &verdict["reported"]))
            .collect();
        let (passes, refused) = (Value::from("ok"), Value::from(refusal.reason));
        let (none, report_mode) = (said[0], said[1]);
        assert_eq!(
            (none.0, report_mode),
            (&passes, (&passes, &refused)),
            "{report:#}"
        );
        assert_eq!([said[2].0, said[3].0], [&refused; 2], "{report:#}");
    }
}
