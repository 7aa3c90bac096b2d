//! What only `openssl s_server` can be made to do.

use crate::Result;
use crate::files::Files;
use crate::gateway::{Gateway, Spec};
use crate::servers;
use crate::upstreams::verified;

/// The answer's reason, the outcome in the report, and its remedy.
fn refused(certificate: &str, server: &[&str]) -> Result<(String, String, String)> {
    let files = Files::new()?;
    let server = servers::openssl_with(certificate, server, &files)?;
    let gateway = Gateway::start(
        &files,
        server.address,
        Spec {
            tls: &verified(&files),
            ..Spec::default()
        },
    )?;
    let answer = gateway.get("/")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    let reason = answer.header("x-nuncio-reason").unwrap_or("none").to_owned();
    let report = gateway.last_handshake()?;
    let text = |field: &str| report[field].as_str().unwrap_or_default().to_owned();
    Ok((reason, text("outcome"), text("remedy")))
}

#[test]
fn p2_rsa_key_exchange_only_is_no_shared_cipher() -> Result {
    let (reason, outcome, remedy) = refused("rsa", &["-tls1_2", "-cipher", "AES128-GCM-SHA256"])?;
    assert_eq!(reason, "no_shared_cipher");
    assert_eq!(outcome, "no_shared_cipher");
    assert!(!remedy.is_empty(), "the operator is told what to do");
    Ok(())
}

#[test]
fn p2_tls_1_1_only_is_protocol_version() -> Result {
    let (reason, outcome, remedy) = refused("rsa", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])?;
    assert_eq!(reason, "protocol_version");
    assert_eq!(outcome, "protocol_version");
    assert!(!remedy.is_empty(), "the operator is told what to do");
    Ok(())
}

#[test]
fn p13_server_that_asks_for_another_key_share_is_given_it() -> Result {
    let files = Files::new()?;
    let server = servers::openssl_with("server", &["-tls1_3", "-curves", "P-256"], &files)?;
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
    let group = gateway.last_handshake()?["group"].to_string();
    assert!(group.contains("256"), "P-256 is what was left: {group}");
    Ok(())
}

#[test]
fn group_that_only_the_server_knows_is_no_handshake() -> Result {
    let (reason, outcome, _) = refused("server", &["-tls1_3", "-curves", "X448"])?;
    // openssl tells it with the alert handshake_failure, which does not say what was missing.
    assert!(
        [
            "no_shared_group",
            "no_shared_cipher",
            "alert_received:handshake_failure"
        ]
        .contains(&reason.as_str()),
        "{reason}"
    );
    assert_eq!(outcome, reason);
    Ok(())
}
