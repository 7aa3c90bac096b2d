//! What must work alike with every TLS server.

use super::Result;
use super::files::{Files, NAME};
use super::foreign::curl;
use super::gateway::{get, handshakes, in_front_of, last_handshake};
use super::servers::{self, Kind, Setup, Version};

/// One module per server, with every case as a test of its own.
macro_rules! for_each_server {
    ($($server:ident => $kind:expr;)*) => { $(
        mod $server {
            use super::*;

            #[tokio::test]
            async fn answers_curl_without_the_gateway() -> Result {
                answers_curl($kind).await
            }

            #[tokio::test]
            async fn tls_1_2_is_spoken_with_the_name_as_sni() -> Result {
                speaks($kind, Version::Tls12).await
            }

            #[tokio::test]
            async fn tls_1_3_is_spoken_with_the_name_as_sni() -> Result {
                speaks($kind, Version::Tls13).await
            }

            #[tokio::test]
            async fn client_certificate_is_accepted_in_tls_1_2() -> Result {
                identifies($kind, Version::Tls12).await
            }

            #[tokio::test]
            async fn client_certificate_is_accepted_in_tls_1_3() -> Result {
                identifies($kind, Version::Tls13).await
            }

            #[tokio::test]
            async fn p15_client_certificate_that_is_missing_is_named_in_tls_1_2() -> Result {
                is_refused($kind, Version::Tls12, None, "client_cert_required").await
            }

            #[tokio::test]
            async fn p15_client_certificate_that_is_missing_is_named_in_tls_1_3() -> Result {
                is_refused($kind, Version::Tls13, None, "client_cert_required").await
            }

            #[tokio::test]
            async fn client_certificate_of_a_stranger_is_named_in_tls_1_2() -> Result {
                is_refused($kind, Version::Tls12, Some("stranger"), "client_cert_rejected").await
            }

            #[tokio::test]
            async fn p16_client_certificate_of_a_stranger_is_named_in_tls_1_3() -> Result {
                is_refused($kind, Version::Tls13, Some("stranger"), "client_cert_rejected").await
            }

            #[tokio::test]
            async fn unknown_issuer_is_refused_in_mode_chain() -> Result {
                distrusts($kind).await
            }

            #[tokio::test]
            async fn session_is_resumed_in_tls_1_2() -> Result {
                resumes($kind, Version::Tls12).await
            }

            #[tokio::test]
            async fn session_is_resumed_in_tls_1_3() -> Result {
                resumes($kind, Version::Tls13).await
            }
        }
    )* };
}

for_each_server! {
    nginx => Kind::Nginx;
    haproxy => Kind::Haproxy;
    envoy => Kind::Envoy;
    caddy => Kind::Caddy;
    openssl => Kind::Openssl;
}

/// TLSContext fields that verify the server's chain and name.
pub(super) fn verified(files: &Files) -> [String; 2] {
    [
        format!("cacert_chain_file: {}", files.path("ca.pem")),
        "verify: {mode: full}".to_owned(),
    ]
}

/// TLSContext fields that show a client certificate.
fn identity(files: &Files, name: &str) -> [String; 2] {
    let (chain, key) = (
        files.path(&format!("{name}.pem")),
        files.path(&format!("{name}.key")),
    );
    [
        format!("cert_chain_file: {chain}"),
        format!("private_key_file: {key}"),
    ]
}

/// Caddy writes `tls1.3`, the others `TLSv1.3`.
fn same_version(kind: Kind, said: &str, version: Version) -> bool {
    match kind {
        Kind::Caddy => said == version.as_str().to_lowercase().replace('v', ""),
        _ => said == version.as_str(),
    }
}

/// The server does what the other tests take for granted; when this fails, look here first.
async fn answers_curl(kind: Kind) -> Result {
    let files = Files::new()?;
    for version in [Version::Tls12, Version::Tls13] {
        let setup = Setup {
            version: Some(version),
            client_certificate: true,
            ..Setup::default()
        };
        let server = servers::start(kind, setup, &files).await?;
        let (address, ca) = (format!("{NAME}:443:{}", server.address), files.path("ca.pem"));
        let (chain, key) = (files.path("client.pem"), files.path("client.key"));
        let url = format!("https://{NAME}/");
        let connect = ["--http1.1", "--connect-to", &address, "--cacert", &ca];
        let answer = curl(&[&connect[..], &["--cert", &chain, "--key", &key, &url]].concat())?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let saw = server.saw(&answer).await?;
        assert_eq!(saw["sni"], NAME, "{saw:?}");
        assert!(same_version(kind, &saw["version"], version), "{saw:?}");
    }
    Ok(())
}

async fn speaks(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let gateway = in_front_of(server.address, &lines(&verified(&files)), &[]).await;

    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let saw = server.saw(&answer).await?;
    assert_eq!(saw["sni"], NAME, "{saw:?}");
    assert!(same_version(kind, &saw["version"], version), "{saw:?}");
    let report = last_handshake(&gateway).await?;
    assert_eq!(report["outcome"], "ok", "{report:#}");
    assert_eq!(report["version"], version.as_str(), "{report:#}");
    assert_eq!(report["verify"]["result"], "ok", "{report:#}");
    Ok(())
}

async fn identifies(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        client_certificate: true,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let tls = [verified(&files), identity(&files, "client")].concat();
    let gateway = in_front_of(server.address, &lines(&tls), &[]).await;

    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = last_handshake(&gateway).await?;
    assert_eq!(report["client_certificate"]["requested"], true, "{report:#}");
    assert_eq!(report["client_certificate"]["sent"], true, "{report:#}");
    Ok(())
}

/// The server wants a client certificate by its CA and gets the one named, or none.
async fn is_refused(kind: Kind, version: Version, certificate: Option<&str>, reason: &str) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        client_certificate: true,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let mut tls = verified(&files).to_vec();
    tls.extend(certificate.into_iter().flat_map(|name| identity(&files, name)));
    let gateway = in_front_of(server.address, &lines(&tls), &[]).await;

    // Twice: a session left over from the first must not hide the reason.
    for _ in 0..2 {
        let answer = get(&gateway, "/")?;
        if kind == Kind::Nginx {
            // nginx finishes the handshake and refuses in HTTP.
            assert_eq!(answer.status, 400, "{answer:?}");
            assert_eq!(answer.header("x-nuncio-reason"), None, "{answer:?}");
        } else {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("x-nuncio-reason"), Some(reason), "{answer:?}");
            assert_eq!(
                answer.body,
                "upstream connect error or disconnect/reset before headers"
            );
        }
    }
    if kind != Kind::Nginx {
        let report = last_handshake(&gateway).await?;
        assert_eq!(report["client_certificate"]["requested"], true, "{report:#}");
        assert_eq!(
            report["client_certificate"]["sent"],
            certificate.is_some(),
            "{report:#}"
        );
    }
    Ok(())
}

async fn distrusts(kind: Kind) -> Result {
    let files = Files::new()?;
    let server = servers::start(kind, Setup::default(), &files).await?;
    let ca = format!("cacert_chain_file: {}", files.path("other-ca.pem"));
    let gateway = in_front_of(server.address, &[&ca, "verify: {mode: chain}"], &[]).await;

    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(
        answer.header("x-nuncio-reason"),
        Some("unknown_issuer"),
        "{answer:?}"
    );
    assert_eq!(last_handshake(&gateway).await?["outcome"], "unknown_issuer");
    Ok(())
}

async fn resumes(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let gateway = in_front_of(server.address, &lines(&verified(&files)), &[]).await;

    // Each answer closes its connection, so each request needs a handshake.
    for request in 0..3 {
        let answer = get(&gateway, "/")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let report = last_handshake(&gateway).await?;
        assert_eq!(report["resumed"], request > 0, "request {request}: {report:#}");
        assert_eq!(report["verify"]["result"], "ok", "request {request}: {report:#}");
        if let Some(resumed) = server.saw(&answer).await?.get("resumed") {
            let resumed = matches!(resumed.as_str(), "r" | "1" | "true");
            assert_eq!(resumed, request > 0, "request {request}: {answer:?}");
        }
    }
    let (resumed, full) = (
        handshakes(&gateway, r#"resumed="true""#).await?,
        handshakes(&gateway, r#"resumed="false""#).await?,
    );
    assert_eq!((resumed, full), (2.0, 1.0));
    Ok(())
}

/// h2 is negotiated and spoken where both sides want it.
async fn negotiates_h2(kind: Kind) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        h2: true,
        close: false,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let [ca, mode] = verified(&files);
    let gateway = in_front_of(server.address, &[&ca, &mode, "alpn_protocols: h2, http/1.1"], &[]).await;

    for _ in 0..2 {
        let answer = get(&gateway, "/")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let saw = server.saw(&answer).await?;
        assert!(saw["http"].starts_with("HTTP/2"), "{saw:?}");
    }
    assert_eq!(last_handshake(&gateway).await?["alpn"], "h2");
    assert_eq!(
        handshakes(&gateway, "").await?,
        1.0,
        "both requests went over one connection"
    );
    Ok(())
}

fn lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn p6_nginx_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Nginx).await
}

#[tokio::test]
async fn p6_haproxy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Haproxy).await
}

#[tokio::test]
async fn p6_envoy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Envoy).await
}

#[tokio::test]
async fn p6_caddy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Caddy).await
}

#[tokio::test]
async fn p7_openssl_that_knows_only_http_1_1_is_spoken_to_in_it() -> Result {
    let files = Files::new()?;
    let server = servers::start(Kind::Openssl, Setup::default(), &files).await?;
    let [ca, mode] = verified(&files);
    let gateway = in_front_of(server.address, &[&ca, &mode, "alpn_protocols: h2, http/1.1"], &[]).await;

    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(last_handshake(&gateway).await?["alpn"], "http/1.1");
    Ok(())
}
