//! `nuncio check`: compile the manifests and print every problem.

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use nuncio_compile::Options;
use nuncio_model::{Problem, Severity};

use crate::cli::{CheckArgs, Format};
use crate::report;

/// Checks the manifests at `paths` and gives the status to exit with: 1 where something is wrong,
/// with `--strict` also where something is doubtful. `warnings` are about the environment.
pub(crate) fn run(
    args: &CheckArgs,
    options: &Options,
    warnings: &[String],
    out: &mut dyn Write,
    colour: bool,
) -> io::Result<u8> {
    let (output, loaded) = nuncio_controller::check(&args.paths, options);
    let of_environment = warnings.iter().map(|message| Problem {
        severity: Severity::Warning,
        reason: "environment".into(),
        message: message.clone(),
        object: None,
        field: None,
        place: None,
    });
    let of_manifests = output.snapshot.problems.iter().cloned();
    let problems: Vec<Problem> = of_environment.chain(of_manifests).collect();
    match args.format {
        Format::Text => report::write(out, &problems, &loaded, colour)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &serde_json::json!({ "problems": problems }))?;
            writeln!(out)?;
        }
    }
    Ok(u8::from(is_wrong(&problems, args.strict)))
}

fn is_wrong(problems: &[Problem], strict: bool) -> bool {
    let worst = if strict {
        Severity::Warning
    } else {
        Severity::Error
    };
    problems.iter().any(|problem| problem.severity >= worst)
}
