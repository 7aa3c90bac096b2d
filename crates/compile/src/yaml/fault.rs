//! What is wrong with a text, in words that name the cure.

use saphyr_parser::ScanError;

use super::Spot;

/// Why a text is no YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the file.
    pub spot: Spot,
    /// One sentence with the cure.
    pub message: String,
}

impl Fault {
    pub(super) fn new(spot: Spot, message: impl Into<String>) -> Self {
        Self {
            spot,
            message: message.into(),
        }
    }

    /// The parser's complaint about a text whose first line is `first_line` of its file.
    pub(super) fn of_scan(error: &ScanError, text: &str, first_line: u32) -> Self {
        let (line, column) = position(error, text);
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        let at = |line: u32, column| Spot {
            line: line.saturating_add(first_line).saturating_sub(1),
            column,
        };
        if let Some((line, column, message)) =
            foreign(text, line).or_else(|| unclosed(error.info(), text, line))
        {
            return Self::new(at(line, column), message);
        }
        Self::new(at(line, column), sentence(error.info()))
    }
}

/// What stands on the line of a fault, or at the beginning of any, and is no YAML at all.
fn foreign(text: &str, line: u32) -> Option<(u32, u32, &'static str)> {
    let numbered = || text.lines().zip(1u32..);
    if let Some((_, line)) = numbered().find(|(text, _)| text.starts_with("<<<<<<< ")) {
        let message = "this is a mark of a merge conflict; keep one of the two sides, and remove the marks";
        return Some((line, 1, message));
    }
    if let Some((_, line)) = numbered().find(|(text, _)| text.starts_with("```")) {
        let message = "this is Markdown; keep only what stands between the lines of backticks";
        return Some((line, 1, message));
    }
    if let Some((_, line)) = numbered().find(|(text, _)| text.starts_with("@@ -")) {
        let message = "this is a patch in the form of diff; apply it, and check the files that it changes";
        return Some((line, 1, message));
    }
    let of_line = |wanted: u32| numbered().find(|(_, number)| *number == wanted);
    // The scanner may have taken the line for a part of the next one.
    let lines = [line.saturating_sub(1), line];
    let odd = lines.into_iter().filter_map(of_line).find_map(|(text, line)| {
        let at = odd_space(text)?;
        Some((line, u32::try_from(at + 1).unwrap_or(u32::MAX)))
    });
    if let Some((line, column)) = odd {
        let message =
            "a space that is none to YAML stands here, such as a no-break space; write an ordinary one";
        return Some((line, column, message));
    }
    let (text, _) = of_line(line)?;
    let is_rule = text.len() > 1 && text.trim_end().bytes().all(|byte| b"-=_*".contains(&byte));
    is_rule.then_some((
        line,
        1,
        "this line is no separator of documents; write `---`, with nothing after it",
    ))
}

/// Where a space that is none of ASCII indents a line or follows its first `:`.
fn odd_space(line: &str) -> Option<usize> {
    let is_odd = |c: char| c.is_whitespace() && !c.is_ascii();
    let mut before = ' ';
    for (at, c) in line.chars().enumerate() {
        if is_odd(c) {
            return (before == ':' || before.is_whitespace()).then_some(at);
        }
        if before == ':' && c != ' ' || c == '#' {
            return None;
        }
        before = c;
    }
    None
}

/// Complaints about a line that are due to a bracket above it.
const AFTER_BRACKETS: [&str; 2] = ["invalid indentation", "illegal placement of ':'"];

/// A bracket that is open before the line of a fault, where that is its reason.
fn unclosed(info: &str, text: &str, line: u32) -> Option<(u32, u32, &'static str)> {
    let is_about_it = AFTER_BRACKETS.iter().any(|part| info.contains(part)) && !info.contains("quoted");
    let (line, column) = open_bracket(text, line).filter(|_| is_about_it)?;
    let message =
        "what this bracket begins is not closed before the next line of its level; add the closing bracket";
    Some((line, column, message))
}

/// The bracket that is open before a line, as far as that can be seen without reading the YAML.
fn open_bracket(text: &str, before: u32) -> Option<(u32, u32)> {
    let mut open = Vec::new();
    for (line, number) in text.lines().zip(1..before) {
        let mut quote = None;
        let mut last = ' ';
        for (c, column) in line.chars().zip(1u32..) {
            match (quote, c) {
                (Some(begin), c) if c == begin => quote = None,
                (Some(_), _) => {}
                (None, '#') if last.is_whitespace() => break,
                (None, '"' | '\'') => quote = Some(c),
                (None, '[' | '{') => open.push((number, column)),
                (None, ']' | '}') => {
                    open.pop();
                }
                (None, _) => {}
            }
            last = c;
        }
    }
    open.pop()
}

/// Where a user would look for the fault, from 1. The parser often notices it later.
fn position(error: &ScanError, text: &str) -> (usize, usize) {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let lines: Vec<&str> = text.lines().collect();
    if error.info().contains("tab") {
        let indented_by_tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
        let mut rest = lines.iter().enumerate().skip(line.saturating_sub(1));
        let found = rest.find(|(_, line)| indented_by_tab(line));
        return found.map_or((line, column), |(at, line)| {
            (at + 1, line.find('\t').unwrap_or(0) + 1)
        });
    }
    let before = lines
        .get(line.saturating_sub(1))
        .map_or("", |text| text.get(..column - 1).unwrap_or_default());
    let last_used = (1..=lines.len().min(line.saturating_sub(1)))
        .rev()
        .find(|line| !lines[line - 1].trim().is_empty());
    match last_used {
        Some(above) if error.info().contains("simple key") && before.trim().is_empty() => {
            let text = lines[above - 1];
            (above, text.chars().take_while(|c| c.is_whitespace()).count() + 1)
        }
        Some(above) if line > lines.len() => (above, lines[above - 1].trim_end().chars().count() + 1),
        _ => (line, column),
    }
}

/// Complaints of the parser that users meet, by a part of their text, and what to say instead.
/// The first that fits counts.
const CURES: &[(&str, &str)] = &[
    (
        "indentation in quoted",
        "the quoted text that begins here goes on over lines that are indented less; add the closing quote",
    ),
    (
        "tab",
        "a tab stands where YAML wants spaces; indent with spaces only",
    ),
    (
        "anchor or alias",
        "a plain value cannot begin with `*` or `&`; put it in quotes, such as \"*\"",
    ),
    (
        "unknown anchor",
        "this alias names no anchor of its document; define it before with `&`, or put the value in quotes",
    ),
    (
        "mapping values are not allowed",
        "a `:` stands where no value can begin; put the text in quotes, or correct the indentation of this line or the one above",
    ),
    (
        "simple key",
        "this line is no `key: value`; add the `:`, or indent it as part of the value above",
    ),
    (
        "did not find expected key",
        "this line fits no level of indentation above it; indent it like the keys it belongs to",
    ),
    (
        "expected '-' indicator",
        "this line does not continue the list above it; begin it with `- `, or correct its indentation",
    ),
    (
        "block sequence entries",
        "a list cannot begin here; put the `-` on a line of its own",
    ),
    (
        "indentation",
        "the indentation of this line fits nothing above it; use the same number of spaces as its neighbours",
    ),
    (
        "wrongly indented",
        "this line is indented less than the text block it belongs to; indent it like the block's first line",
    ),
    (
        "expected ',' or ']'",
        "the list that `[` begins is not closed; add the `,` or `]` that is missing",
    ),
    (
        "expected ',' or '}'",
        "the mapping that `{` begins is not closed; add the `,` or `}` that is missing",
    ),
    (
        "found unexpected end of stream",
        "the quoted text that begins here never ends; add the closing quote",
    ),
    (
        "document indicator",
        "the quoted text is cut by `---` or `...`; add the closing quote before",
    ),
    (
        "trailing content after",
        "something follows the closing quote; put a `,` before it where it is another value, remove it, or write inner \
         quotes as \\\"",
    ),
    (
        "escape",
        "in double quotes a `\\` begins an escape; write `\\\\`, or use single quotes",
    ),
    (
        "unexpected character",
        "a plain value cannot begin with this character; put the value in quotes",
    ),
    (
        "expected next token",
        "a plain value cannot begin with this character; put the value in quotes",
    ),
    (
        "expected <document",
        "this line does not belong to the document above; correct its indentation, or put `---` before it",
    ),
    (
        "expected node content",
        "a value is missing here; write it, or close the bracket before it",
    ),
    (
        "recursion limit",
        "the document is nested too deep; 100 levels are read",
    ),
    (
        "handle wasn't declared",
        "the tag means nothing in a manifest; leave it out",
    ),
    (
        "eof",
        "the text ends in the middle of a value; the file may be half written",
    ),
];

fn sentence(info: &str) -> String {
    CURES.iter().find(|(part, _)| info.contains(part)).map_or_else(
        || format!("this is not YAML ({info}); correct the quotes or the indentation"),
        |(_, sentence)| (*sentence).to_owned(),
    )
}
