//! Standard output and standard error of the commands.

use std::fmt;
use std::io::{self, Write};

/// Prints a line on standard output. A reader that went away (`| head`) is no failure of ours.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a sentence on standard error, as `nuncio: ...`.
pub(crate) fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "nuncio: {text}");
}
