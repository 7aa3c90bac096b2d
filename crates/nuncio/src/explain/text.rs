//! The answer for people.

use std::io::{self, Write};

use nuncio_compile::Output;
use nuncio_model::{RetryPolicy, Upstream};

use super::request::Request;
use super::upstream::{self, Setting};
use super::way::{Part, Way, condition};
use crate::report;

/// Writes the way from the port to the upstream.
pub(super) fn write(
    out: &mut dyn Write,
    request: &Request,
    way: &Way<'_>,
    output: &Output,
) -> io::Result<()> {
    writeln!(out, "{} {}", request.method, request.url)?;
    if let Some(listener) = way.listener {
        let unsaid = if request.port.is_none() {
            " (the URL names none)"
        } else {
            ""
        };
        line(
            out,
            2,
            "Listener",
            &format!("{}, port {}{unsaid}", listener.name, listener.port),
        )?;
    }
    if let Some(host) = way.host {
        let name = match &host.object {
            Some(object) => format!("{}, hostname {}", object.qualified(), host.hostname),
            None => format!("{} (made by default, as no Host exists)", host.hostname),
        };
        line(out, 2, "Host", &name)?;
    }
    for part in &way.parts {
        self::part(out, part, request, output)?;
    }
    match &way.problem {
        Some(problem) => writeln!(out, "\n{}", report::wrapped(problem, 0)),
        None => Ok(()),
    }
}

fn part(out: &mut dyn Write, part: &Part<'_>, request: &Request, output: &Output) -> io::Result<()> {
    let share = if part.share == 100 {
        String::new()
    } else {
        format!(", {} % of such requests", part.share)
    };
    line(out, 2, "Mapping", &format!("{}{share}", part.target.label))?;
    line(out, 4, "matches", &condition(&part.route.matches.path))?;
    let forward = match part.forward() {
        Ok(forward) => forward,
        Err(unresolved) => {
            let answer = format!("{} {}", unresolved.reason.status(), unresolved.reason);
            line(out, 4, "answers", &answer)?;
            return line(out, 4, "because", &unresolved.message);
        }
    };
    line(out, 4, "path", &part.path)?;
    let authority = part.host_header(request);
    line(out, 4, "Host header", &authority)?;
    if let Some(retry) = &forward.retry {
        line(out, 4, "sent again", &retries(retry))?;
    }
    upstream_lines(
        out,
        &output
            .snapshot
            .upstream(forward.upstream)
            .as_of(&part.target.mapping),
        output,
        &authority,
    )
}

/// `2 times on 5xx, each within 250 ms`
fn retries(policy: &RetryPolicy) -> String {
    let times = match policy.retries {
        1 => "once".to_owned(),
        many => format!("{many} times"),
    };
    let each = policy
        .per_try_timeout
        .map(|limit| format!(", each within {} ms", limit.as_millis()));
    format!("{times} on {}{}", policy.on.as_str(), each.unwrap_or_default())
}

fn upstream_lines(
    out: &mut dyn Write,
    upstream: &Upstream,
    output: &Output,
    authority: &str,
) -> io::Result<()> {
    line(out, 4, "upstream", &upstream.name)?;
    line(out, 6, "address", &upstream::address(upstream, &output.endpoints))?;
    line(out, 6, "protocol", upstream::protocol(upstream).0)?;
    let Some(settings) = upstream::settings(upstream, authority) else {
        return line(out, 6, "TLS", "none, cleartext is sent");
    };
    if let Some(origins) = &upstream.origins {
        let stale = if origins.stale {
            "; the last good version serves"
        } else {
            ""
        };
        line(out, 6, "TLS", &format!("[{}]{stale}", origins.enabled))?;
    }
    for one in &settings {
        setting(out, one)?;
    }
    Ok(())
}

/// Columns of a setting's value; an origin that does not fit behind it stands below.
const VALUE: usize = 20;
/// Columns of a line.
const WIDTH: usize = 100;

fn setting(out: &mut dyn Write, setting: &Setting) -> io::Result<()> {
    let name = setting.name.replace('_', " ");
    let origin = format!("[{}]", setting.origin);
    let value = setting.shown.chars().count().max(VALUE);
    if COLUMN + value + 1 + origin.chars().count() <= WIDTH {
        return writeln!(out, "        {name:20}{:VALUE$} {origin}", setting.shown);
    }
    line(out, 8, &name, &setting.shown)?;
    line(out, 8, "", &origin)
}

/// Columns before a value.
const COLUMN: usize = 28;

/// What, and its value in a column of its own. A long value is broken between its words.
fn line(out: &mut dyn Write, indent: usize, what: &str, value: &str) -> io::Result<()> {
    let width = COLUMN - indent;
    let value = report::wrapped(value, COLUMN).replace('\n', &format!("\n{:COLUMN$}", ""));
    writeln!(out, "{:indent$}{what:width$}{value}", "")
}
