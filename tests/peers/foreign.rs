//! Programs that are not ours: found, started, waited for, and run to their end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::Result;
use crate::support::program::{Running, repository};
use crate::support::waiting::eventually;

/// A command for an installed program.
pub(super) fn command(program: &str) -> Result<Command> {
    let path = std::env::var("PATH").unwrap_or_default();
    // Where Debian keeps servers, and where tests/peers/install puts what it installs itself.
    let more = [
        PathBuf::from("/usr/sbin"),
        PathBuf::from("/usr/local/sbin"),
        repository().join("target/peers/bin"),
    ];
    let found = std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    let found = found.ok_or_else(|| format!("{program} is not here; tests/peers/install installs it"))?;
    let mut command = Command::new(found);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Starts a server and waits until it accepts connections at `address`.
pub(super) async fn start(mut command: Command, address: SocketAddr) -> Result<Running> {
    let name = command.get_program().display().to_string();
    // Nothing but its messages is wanted from it.
    command.stdout(Stdio::null());
    let mut program = Running::start(command);
    eventually(&format!("{name} accepts connections"), async || {
        match program.ended() {
            Some(status) => Some(Err(
                format!("{name} ended with {status}: {:?}", program.stderr()).into()
            )),
            None => TcpStream::connect(address).ok().map(|_| Ok(())),
        }
    })
    .await
    .map(|()| program)
}

/// Runs a client to its end and gives back what it printed; a failure is told with all of it.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program)?.args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{program} {arguments:?} ended with {}: {errors}\n{text}",
            output.status
        )
        .into());
    }
    Ok(text)
}

/// An address for a server that cannot choose a port itself. Ports are counted up below the range that the system
/// gives to outgoing connections, so that nothing takes one between its choice and its use.
pub(super) fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 50)? * 200;
    for _ in 0..2_000 {
        let port = 12_000 + offset + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
    }
    Err("no free port on 127.0.0.1".into())
}

/// What curl got.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status codes of interim answers, such as 100.
    pub(super) interim: Vec<u16>,
    /// The final status.
    pub(super) status: u16,
    /// `HTTP/1.1`, `HTTP/2`.
    pub(super) version: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The body as text.
    pub(super) body: String,
}

impl Answer {
    /// The first value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One request by curl; `arguments` end with the URL. Everything is over after 30 seconds.
pub(super) fn curl(arguments: &[&str]) -> Result<Answer> {
    let output = run(
        "curl",
        &[
            &["--silent", "--show-error", "--include", "--max-time", "30"],
            arguments,
        ]
        .concat(),
    )?;
    parse(&output)
}

/// Takes apart what `curl --include` prints: the heads of all answers, then the body of the last.
fn parse(output: &str) -> Result<Answer> {
    let mut interim = Vec::new();
    let mut rest = output;
    loop {
        let (head, body) = rest
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("no end of the headers: {output}"))?;
        let mut lines = head.lines();
        let mut start = lines.next().unwrap_or_default().split(' ');
        let version = start.next().unwrap_or_default().to_owned();
        let status: u16 = start.next().unwrap_or_default().parse()?;
        if (100..200).contains(&status) && status != 101 {
            interim.push(status);
            rest = body;
            continue;
        }
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        return Ok(Answer {
            interim,
            status,
            version,
            headers,
            body: body.to_owned(),
        });
    }
}
