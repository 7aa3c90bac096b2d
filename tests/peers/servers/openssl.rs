//! `openssl s_server -www`: a status page over HTTP/1.0, one connection at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::super::Result;
use super::super::files::Files;
use super::super::foreign::{self, Answer};
use super::{Kind, Server, Setup, Version};
use crate::support::program::Running;
use crate::support::waiting::eventually;

pub(super) async fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Running)> {
    let mut extra: Vec<String> = Vec::new();
    match setup.version {
        None => {}
        Some(Version::Tls12) => extra.push("-tls1_2".to_owned()),
        Some(Version::Tls13) => extra.push("-tls1_3".to_owned()),
    }
    if setup.client_certificate {
        let ca = files.path("ca.pem");
        extra.extend(["-Verify", "3", "-verify_return_error", "-CAfile", &ca].map(str::to_owned));
    }
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    run("server", &extra, files).await
}

/// Starts it with the certificate `certificate` and arguments that no other server has a like for.
pub(in super::super) async fn start_with(certificate: &str, extra: &[&str], files: &Files) -> Result<Server> {
    let (address, program) = run(certificate, extra, files).await?;
    Ok(Server {
        address,
        kind: Kind::Openssl,
        program,
    })
}

async fn run(certificate: &str, extra: &[&str], files: &Files) -> Result<(SocketAddr, Running)> {
    let (chain, key) = (
        files.path(&format!("{certificate}.pem")),
        files.path(&format!("{certificate}.key")),
    );
    let mut command = foreign::command("openssl")?;
    command.args([
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        &chain,
        "-key",
        &key,
    ]);
    command
        .args(["-www", "-tlsextdebug", "-alpn", "http/1.1"])
        .args(extra);
    let mut program = Running::start(command);
    let address = eventually("openssl says where it listens", async || {
        let lines = program.stdout();
        let address = lines
            .iter()
            .find_map(|line| line.strip_prefix("ACCEPT ")?.trim().parse().ok());
        match (address, program.ended()) {
            (Some(address), _) => Some(Ok(address)),
            (None, Some(status)) => Some(Err(format!(
                "openssl ended with {status}: {:?}",
                program.stderr()
            ))),
            (None, None) => None,
        }
    });
    let address = address.await?;
    Ok((address, program))
}

/// Version and resumption from the page, SNI from what `-tlsextdebug` printed about the last hello.
pub(super) async fn saw(program: &Running, answer: &Answer) -> Result<BTreeMap<String, String>> {
    // `New, TLSv1.3, Cipher is ...` or `Reused, ...`.
    let line = answer
        .body
        .lines()
        .find(|line| line.contains(", Cipher is "))
        .ok_or_else(|| format!("no session on the page: {answer:?}"))?;
    let mut words = line.split(", ");
    let (how, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // The page may be here before the lines about its hello.
    let told = eventually("openssl tells the server name", async || {
        server_name(&program.stdout().join("\n"))
    });
    let sni = told.await;
    Ok(BTreeMap::from([
        ("version".to_owned(), version.to_owned()),
        ("resumed".to_owned(), (how == "Reused").to_string()),
        ("sni".to_owned(), sni),
        ("http".to_owned(), "HTTP/1.0".to_owned()),
    ]))
}

/// The name in the last hello: printed as a hex dump, after five bytes of lengths and type.
fn server_name(text: &str) -> Option<String> {
    let (_, dump) = text.rsplit_once("TLS client extension \"server name\"")?;
    let bytes: Vec<u8> = dump
        .lines()
        .skip(1)
        .take_while(|line| line.get(4..7) == Some(" - "))
        .flat_map(|line| line.get(7..55).unwrap_or(line).split([' ', '-']))
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    String::from_utf8(bytes.get(5..)?.to_vec()).ok()
}
