//! `openssl s_server -www`: a status page over HTTP/1.0, one connection at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::Result;
use crate::curl::Answer;
use crate::files::Files;
use crate::process::Process;
use crate::servers::{Kind, Server, Setup, Version};

pub(super) fn start(setup: Setup, files: &Files) -> Result<(SocketAddr, Process)> {
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
    run("server", &extra, files)
}

/// Starts it with the certificate `certificate` and arguments that no other server has a like for.
pub(crate) fn start_with(certificate: &str, extra: &[&str], files: &Files) -> Result<Server> {
    let (address, process) = run(certificate, extra, files)?;
    Ok(Server {
        address,
        kind: Kind::Openssl,
        process,
    })
}

fn run(certificate: &str, extra: &[&str], files: &Files) -> Result<(SocketAddr, Process)> {
    let (chain, key) = (
        files.path(&format!("{certificate}.pem")),
        files.path(&format!("{certificate}.key")),
    );
    let mut arguments = vec![
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        &chain,
        "-key",
        &key,
    ];
    arguments.extend(["-www", "-tlsextdebug", "-alpn", "http/1.1"]);
    arguments.extend(extra);
    let mut process = Process::start("openssl", &arguments, &[])?;
    let address = process.wait_for("line with its port", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix("ACCEPT "))?;
        line.trim().parse().ok()
    })?;
    Ok((address, process))
}

/// Version and resumption from the page, SNI from what `-tlsextdebug` printed about the last hello.
pub(super) fn saw(process: &mut Process, answer: &Answer) -> Result<BTreeMap<String, String>> {
    // `New, TLSv1.3, Cipher is ...` or `Reused, ...`.
    let line = answer
        .body
        .lines()
        .find(|line| line.contains(", Cipher is "))
        .ok_or_else(|| format!("no session on the page: {answer:?}"))?;
    let mut words = line.split(", ");
    let (how, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let sni = process.wait_for("server name in the hello", server_name)?;
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
