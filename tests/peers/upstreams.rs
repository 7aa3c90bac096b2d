//! What must work alike with every TLS server.

use crate::Result;
use crate::curl::curl;
use crate::files::{Files, NAME};
use crate::gateway::{Gateway, Spec};
use crate::servers::{self, Kind, Setup, Version};

/// One module per server, with every case as a test of its own.
macro_rules! for_each_server {
    ($($server:ident => $kind:expr;)*) => { $(
        mod $server {
            use super::*;

            #[test]
            fn answers_curl_without_the_gateway() -> Result {
                answers_curl($kind)
            }

            #[test]
            fn tls_1_2_is_spoken_with_the_name_as_sni() -> Result {
                speaks($kind, Version::Tls12)
            }

            #[test]
            fn tls_1_3_is_spoken_with_the_name_as_sni() -> Result {
                speaks($kind, Version::Tls13)
            }

            #[test]
            fn client_certificate_is_accepted_in_tls_1_2() -> Result {
                identifies($kind, Version::Tls12)
            }

            #[test]
            fn client_certificate_is_accepted_in_tls_1_3() -> Result {
                identifies($kind, Version::Tls13)
            }

            #[test]
            fn p15_client_certificate_that_is_missing_is_named_in_tls_1_2() -> Result {
                is_refused($kind, Version::Tls12, "", "client_cert_required")
            }

            #[test]
            fn p15_client_certificate_that_is_missing_is_named_in_tls_1_3() -> Result {
                is_refused($kind, Version::Tls13, "", "client_cert_required")
            }

            #[test]
            fn client_certificate_of_a_stranger_is_named_in_tls_1_2() -> Result {
                is_refused($kind, Version::Tls12, "stranger", "client_cert_rejected")
            }

            #[test]
            fn p16_client_certificate_of_a_stranger_is_named_in_tls_1_3() -> Result {
                is_refused($kind, Version::Tls13, "stranger", "client_cert_rejected")
            }

            #[test]
            fn unknown_issuer_is_refused_in_mode_chain() -> Result {
                distrusts($kind)
            }

            #[test]
            fn session_is_resumed_in_tls_1_2() -> Result {
                resumes($kind, Version::Tls12)
            }

            #[test]
            fn session_is_resumed_in_tls_1_3() -> Result {
                resumes($kind, Version::Tls13)
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
pub(crate) fn verified(files: &Files) -> String {
    format!(
        "cacert_chain_file: {}\nverify: {{mode: full}}\n",
        files.path("ca.pem")
    )
}

/// TLSContext fields that show a client certificate.
fn identity(files: &Files, name: &str) -> String {
    let (chain, key) = (
        files.path(&format!("{name}.pem")),
        files.path(&format!("{name}.key")),
    );
    format!("cert_chain_file: {chain}\nprivate_key_file: {key}\n")
}

/// The server does what the other tests take for granted; when this fails, look here first.
fn answers_curl(kind: Kind) -> Result {
    let files = Files::new()?;
    for version in [Version::Tls12, Version::Tls13] {
        let setup = Setup {
            version: Some(version),
            client_certificate: true,
            ..Setup::default()
        };
        let mut server = servers::start(kind, setup, &files)?;
        let (address, ca) = (format!("{NAME}:443:{}", server.address), files.path("ca.pem"));
        let (chain, key) = (files.path("client.pem"), files.path("client.key"));
        let url = format!("https://{NAME}/");
        let answer = curl(&[
            "--http1.1",
            "--connect-to",
            &address,
            "--cacert",
            &ca,
            "--cert",
            &chain,
            "--key",
            &key,
            &url,
        ])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let saw = server.saw(&answer)?;
        assert_eq!(saw["sni"], NAME, "{saw:?}");
        assert_eq!(
            saw["version"].to_lowercase(),
            version.as_str().to_lowercase().replace("tlsv", tag(kind))
        );
    }
    Ok(())
}

fn speaks(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        ..Setup::default()
    };
    let mut server = servers::start(kind, setup, &files)?;
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &verified(&files),
            ..Spec::default()
        },
    )?;

    let answer = gateway.get("/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let saw = server.saw(&answer)?;
    assert_eq!(saw["sni"], NAME, "{saw:?}");
    assert_eq!(
        saw["version"].to_lowercase(),
        version.as_str().to_lowercase().replace("tlsv", tag(kind)),
        "{saw:?}"
    );
    let report = gateway.last_handshake()?;
    assert_eq!(report["outcome"], "ok", "{report:#}");
    assert_eq!(report["version"], version.as_str(), "{report:#}");
    assert_eq!(report["verify"]["result"], "ok", "{report:#}");
    Ok(())
}

/// Caddy writes `tls1.3`, the others `TLSv1.3`.
fn tag(kind: Kind) -> &'static str {
    if kind == Kind::Caddy { "tls" } else { "tlsv" }
}

fn identifies(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        client_certificate: true,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files)?;
    let tls = verified(&files) + &identity(&files, "client");
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &tls,
            ..Spec::default()
        },
    )?;

    let answer = gateway.get("/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = gateway.last_handshake()?;
    assert_eq!(report["client_certificate"]["requested"], true, "{report:#}");
    assert_eq!(report["client_certificate"]["sent"], true, "{report:#}");
    Ok(())
}

/// The server wants a client certificate by its CA and gets the one named, or none.
fn is_refused(kind: Kind, version: Version, certificate: &str, reason: &str) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        client_certificate: true,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files)?;
    let mut tls = verified(&files);
    if !certificate.is_empty() {
        tls += &identity(&files, certificate);
    }
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &tls,
            ..Spec::default()
        },
    )?;

    // Twice: the second time a session of the refused connection must not hide the reason.
    for _ in 0..2 {
        let answer = gateway.get("/")?;
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
    let report = gateway.last_handshake()?;
    assert_eq!(report["client_certificate"]["requested"], true, "{report:#}");
    assert_eq!(
        report["client_certificate"]["sent"],
        !certificate.is_empty(),
        "{report:#}"
    );
    Ok(())
}

fn distrusts(kind: Kind) -> Result {
    let files = Files::new()?;
    let server = servers::start(kind, Setup::default(), &files)?;
    let tls = format!(
        "cacert_chain_file: {}\nverify: {{mode: chain}}\n",
        files.path("other-ca.pem")
    );
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &tls,
            ..Spec::default()
        },
    )?;

    let answer = gateway.get("/")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(
        answer.header("x-nuncio-reason"),
        Some("unknown_issuer"),
        "{answer:?}"
    );
    assert_eq!(gateway.last_handshake()?["outcome"], "unknown_issuer");
    Ok(())
}

fn resumes(kind: Kind, version: Version) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        version: Some(version),
        ..Setup::default()
    };
    let mut server = servers::start(kind, setup, &files)?;
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &verified(&files),
            ..Spec::default()
        },
    )?;

    // Each answer closes its connection, so each request needs a handshake.
    for request in 0..3 {
        let answer = gateway.get("/")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let report = gateway.last_handshake()?;
        assert_eq!(report["resumed"], request > 0, "request {request}: {report:#}");
        assert_eq!(report["verify"]["result"], "ok", "request {request}: {report:#}");
        if let Some(resumed) = server.saw(&answer)?.get("resumed") {
            assert_eq!(
                matches!(resumed.as_str(), "r" | "1" | "true"),
                request > 0,
                "request {request}: {resumed}"
            );
        }
    }
    assert!(gateway.counter("nuncio_upstream_handshakes_total", &[r#"resumed="true""#])? >= 2.0);
    Ok(())
}

/// h2 is negotiated and spoken where both sides want it.
fn negotiates_h2(kind: Kind) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        h2: true,
        close: false,
        ..Setup::default()
    };
    let mut server = servers::start(kind, setup, &files)?;
    let tls = verified(&files) + "alpn_protocols: h2, http/1.1\n";
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &tls,
            ..Spec::default()
        },
    )?;

    for _ in 0..2 {
        let answer = gateway.get("/")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let saw = server.saw(&answer)?;
        assert!(saw["http"].starts_with("HTTP/2"), "{saw:?}");
    }
    assert_eq!(gateway.last_handshake()?["alpn"], "h2");
    Ok(())
}

#[test]
fn p6_nginx_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Nginx)
}

#[test]
fn p6_haproxy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Haproxy)
}

#[test]
fn p6_envoy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Envoy)
}

#[test]
fn p6_caddy_is_spoken_to_in_h2() -> Result {
    negotiates_h2(Kind::Caddy)
}

#[test]
fn p7_openssl_that_knows_only_http_1_1_is_spoken_to_in_it() -> Result {
    let files = Files::new()?;
    let server = servers::start(Kind::Openssl, Setup::default(), &files)?;
    let tls = verified(&files) + "alpn_protocols: h2, http/1.1\n";
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &tls,
            ..Spec::default()
        },
    )?;

    let answer = gateway.get("/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(gateway.last_handshake()?["alpn"], "http/1.1");
    Ok(())
}
