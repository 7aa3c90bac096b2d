//! `nuncio check`: compile the manifests and print every problem.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;

use nuncio_compile::Options;
use nuncio_model::{Problem, Severity};

use crate::cli::Format;
use crate::report;

/// Checks the manifests at `paths` and gives the status to exit with: 1 where something is wrong,
/// with `strict` also where something is doubtful.
pub(crate) fn run(
    paths: &[PathBuf],
    format: Format,
    strict: bool,
    options: &Options,
    out: &mut dyn Write,
    colour: bool,
) -> io::Result<u8> {
    let (output, loaded) = nuncio_controller::check(paths, options);
    let problems = &output.snapshot.problems;
    match format {
        Format::Text => report::write(out, problems, &loaded, colour)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &serde_json::json!({ "problems": &**problems }))?;
            writeln!(out)?;
        }
    }
    Ok(u8::from(is_wrong(problems, strict)))
}

fn is_wrong(problems: &[Problem], strict: bool) -> bool {
    let worst = if strict {
        Severity::Warning
    } else {
        Severity::Error
    };
    problems.iter().any(|problem| problem.severity >= worst)
}
