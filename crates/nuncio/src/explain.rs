//! `nuncio explain`: the way a request would take, and where each of its settings comes from.

mod nearest;
mod request;
mod text;
mod upstream;
mod way;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;

use nuncio_compile::Options;
use serde_json::{Value, json};

use self::request::Request;
use self::way::{Part, Way};
use crate::cli::{ExplainArgs, Format};
use crate::failure::Failure;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    config: &'a [PathBuf],
    request: Request,
    format: Format,
}

impl<'a> Question<'a> {
    /// Reads what was typed.
    ///
    /// # Errors
    /// Where there is no such request.
    pub(crate) fn read(args: &'a ExplainArgs) -> Result<Self, Failure> {
        let request = Request::read(&args.url, &args.method, &args.headers).map_err(Failure::usage)?;
        Ok(Self {
            config: &args.config,
            request,
            format: args.format,
        })
    }
}

/// Answers, and gives the status to exit with: 0 where every such request would reach an upstream.
pub(crate) fn run(question: &Question<'_>, options: &Options, out: &mut dyn Write) -> io::Result<u8> {
    let (output, _) = nuncio_controller::check(question.config, options);
    let request = &question.request;
    let way = Way::find(&output.snapshot, request);
    match question.format {
        Format::Text => text::write(out, request, &way, &output)?,
        Format::Json => writeln!(out, "{:#}", value(request, &way, &output))?,
    }
    Ok(u8::from(!way.reaches_an_upstream()))
}

fn value(request: &Request, way: &Way<'_>, output: &nuncio_compile::Output) -> Value {
    let listener = way
        .listener
        .map(|listener| json!({ "object": listener.object, "name": listener.name, "port": listener.port }));
    let host = way
        .host
        .map(|host| json!({ "object": host.object, "hostname": host.hostname }));
    let mappings: Vec<Value> = way
        .parts
        .iter()
        .map(|part| part_value(part, request, output))
        .collect();
    json!({
        "method": request.method.as_str(),
        "url": request.url,
        "path": way.path,
        "secure": request.secure,
        "listener": listener,
        "host": host,
        "mappings": mappings,
        "problem": way.problem,
    })
}

fn part_value(part: &Part<'_>, request: &Request, output: &nuncio_compile::Output) -> Value {
    let mut value = json!({
        "mapping": part.target.mapping,
        "share_percent": part.share,
        "matched": way::condition(&part.route.matches.path),
        "precedence": part.route.matches.precedence,
    });
    let more = match part.forward() {
        Err(unresolved) => json!({
            "unresolved": { "reason": unresolved.reason, "message": unresolved.message },
        }),
        Ok(forward) => json!({
            "path": part.path,
            "host_header": part.host_header(request),
            "timeout_ms": forward.timeout.map(|timeout| timeout.as_millis()),
            "connect_timeout_ms": forward.connect_timeout.as_millis(),
            "retry_policy": forward.retry.as_ref().map(|policy| json!({
                "retry_on": policy.on.as_str(),
                "num_retries": policy.retries,
                "per_try_timeout_ms": policy.per_try_timeout.map(|limit| limit.as_millis()),
            })),
            "upstream": upstream::value(
                &output.snapshot.upstream(forward.upstream).as_of(&part.target.mapping),
                &output.endpoints,
                &part.host_header(request),
            ),
        }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}
