//! Standard output and standard error of the commands.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use crate::failure::Failure;

/// Prints a line on standard output. A reader that went away (`| head`) is no failure of ours.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a sentence on standard error, as `nuncio: ...`.
pub(crate) fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "nuncio: {text}");
}

/// Lets a command write to standard output, in colour where a person reads it, and give its status.
pub(crate) fn with_stdout(
    write: impl FnOnce(&mut dyn Write, bool) -> io::Result<u8>,
) -> Result<ExitCode, Failure> {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = BufWriter::new(UntilClosed(io::stdout().lock()));
    let status = write(&mut out, colour);
    match status.and_then(|status| out.flush().map(|()| status)) {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(error) => Err(Failure::wrong(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Drops what is written after the reader has gone (`| head`), so that the command still gives its status.
struct UntilClosed<W>(W);

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

/// A sentence in lines of at most `width` characters; a longer word has a line to itself.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_between_words() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable it is", 5), ["unbreakable", "it is"]);
        assert!(wrapped("", 5).is_empty());
    }
}
