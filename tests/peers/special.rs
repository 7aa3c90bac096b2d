//! What only `openssl s_server` can be made to do.

use super::Result;
use super::files::{Files, NAME};
use super::gateway::{get, hello_retries, in_front_of, last_handshake};
use super::servers;
use super::upstreams::verified;

/// A handshake that fails: the reason that the client is told, and the remedy in the report.
async fn refused(certificate: &str, server: &[&str]) -> Result<(String, String)> {
    let files = Files::new()?;
    let server = servers::openssl_with(certificate, server, &files).await?;
    let [ca, mode] = verified(&files);
    let gateway = in_front_of(server.address, &[&ca, &mode], &[]).await;
    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    let reason = answer.header("x-nuncio-reason").unwrap_or("none").to_owned();
    let report = last_handshake(&gateway).await?;
    assert_eq!(report["outcome"], reason.as_str(), "{report:#}");
    Ok((reason, report["remedy"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn p2_rsa_key_exchange_only_is_no_shared_cipher() -> Result {
    let (reason, remedy) = refused("rsa", &["-tls1_2", "-cipher", "AES128-GCM-SHA256"]).await?;
    assert_eq!(reason, "no_shared_cipher");
    assert!(!remedy.is_empty(), "the operator is told what to do");
    Ok(())
}

#[tokio::test]
async fn p2_tls_1_1_only_is_protocol_version() -> Result {
    let (reason, remedy) = refused("rsa", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await?;
    assert_eq!(reason, "protocol_version");
    assert!(!remedy.is_empty(), "the operator is told what to do");
    Ok(())
}

#[tokio::test]
async fn p13_server_that_asks_for_another_key_share_is_given_it() -> Result {
    let files = Files::new()?;
    let server = servers::openssl_with("server", &["-tls1_3", "-curves", "P-256"], &files).await?;
    let [ca, mode] = verified(&files);
    let gateway = in_front_of(server.address, &[&ca, &mode], &[]).await;
    let answer = get(&gateway, "/")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let group = last_handshake(&gateway).await?["group"].to_string();
    assert!(
        group.contains("256"),
        "P-256 is all that the server takes: {group}"
    );
    assert_eq!(
        hello_retries(&gateway).await?,
        1.0,
        "the first hello offered no P-256 key"
    );
    Ok(())
}

#[tokio::test]
async fn group_that_only_the_server_knows_is_told_as_no_agreement() -> Result {
    let (reason, remedy) = refused("server", &["-tls1_3", "-curves", "X448"]).await?;
    // openssl says it with the alert handshake_failure, which does not tell what was missing.
    let told = [
        "no_shared_group",
        "no_shared_cipher",
        "alert_received:handshake_failure",
    ];
    assert!(told.contains(&reason.as_str()), "{reason}");
    assert!(!remedy.is_empty(), "the operator is told what to do");
    Ok(())
}

/// A key that our library cannot verify a signature with: not even `none` can connect.
#[tokio::test]
async fn v15_server_with_an_rsa_key_of_1024_bits_is_told_in_every_mode() -> Result {
    let files = Files::new()?;
    let (certificate, key) = (files.path("weak.pem"), files.path("weak.key"));
    let mut openssl = super::foreign::command("openssl")?;
    openssl.args([
        "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak",
    ]);
    let name = format!("subjectAltName=DNS:{NAME}");
    let made = openssl.args(["-addext", &name, "-keyout", &key, "-out", &certificate]);
    let made = made.output()?;
    assert!(made.status.success(), "{made:?}");
    let weak = ["-cipher", "DEFAULT:@SECLEVEL=0"];
    for mode in ["none", "report", "full"] {
        for version in ["-tls1_2", "-tls1_3"] {
            let server = servers::openssl_with("weak", &[&weak[..], &[version]].concat(), &files).await?;
            let mode = format!("verify: {{mode: {mode}}}");
            let ca = format!("cacert_chain_file: {certificate}");
            let gateway = in_front_of(server.address, &[&ca, &mode], &[]).await;
            let answer = get(&gateway, "/")?;
            let reason = answer.header("x-nuncio-reason").unwrap_or("none");
            assert_eq!(
                (answer.status, reason),
                (503, "bad_signature_algorithm"),
                "{mode} {version}"
            );
            let report = last_handshake(&gateway).await?;
            let message = report["message"].as_str().unwrap_or_default();
            assert!(message.contains("2048 bits"), "{report:#}");
        }
    }
    Ok(())
}
