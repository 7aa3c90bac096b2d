//! curl as the client: an HTTP implementation that nobody here wrote.

use std::process::{Command, Stdio};

use crate::Result;
use crate::process::search_path;

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status codes of interim answers, such as 100.
    pub(crate) interim: Vec<u16>,
    /// The final status.
    pub(crate) status: u16,
    /// `HTTP/1.1`, `HTTP/2`.
    pub(crate) version: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as text.
    pub(crate) body: String,
}

impl Answer {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Runs curl; `arguments` end with the URL. Everything is over after 30 seconds.
pub(crate) fn curl(arguments: &[&str]) -> Result<Answer> {
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

/// Runs a client to its end and gives back what it printed; a failure is told with all of it.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} cannot be started ({error}); tests/peers/install installs it"))?;
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
