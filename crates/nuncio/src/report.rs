//! Problems as a good compiler shows them: what is wrong, where it stands, and what to do.
//!
//! The line of the manifest is shown too. In a Secret that line may hold a private key, so there
//! only the key of the entry is shown.

mod excerpt;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Write};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, Title};
use nuncio_controller::Loaded;
use nuncio_model::{Place, Problem, Severity};

use self::excerpt::{Excerpt, Source};

/// Columns that a report takes at most.
pub(crate) const WIDTH: usize = 100;

/// Writes every problem, and at the end how many there are.
pub(crate) fn write(
    out: &mut dyn Write,
    problems: &[Problem],
    loaded: &Loaded,
    colour: bool,
) -> io::Result<()> {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut report = Report {
        renderer: renderer.term_width(WIDTH),
        loaded,
        sources: HashMap::new(),
    };
    for problem in problems {
        writeln!(out, "{}\n", report.problem(problem))?;
    }
    writeln!(out, "{}", summary(problems, loaded.file_count()))
}

/// `2 errors, 1 warning in 4 files`
pub(crate) fn summary(problems: &[Problem], files: usize) -> String {
    let files = counted(files, "file");
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Notice]
        .into_iter()
        .filter_map(|severity| {
            let count = problems
                .iter()
                .filter(|problem| problem.severity == severity)
                .count();
            (count > 0).then(|| counted(count, severity.as_str()))
        })
        .collect();
    if counts.is_empty() {
        return format!("no problems in {files}");
    }
    format!("{} in {files}", counts.join(", "))
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

struct Report<'a> {
    renderer: Renderer,
    loaded: &'a Loaded,
    /// By file; none where there is no text.
    sources: HashMap<&'a str, Option<Source<'a>>>,
}

impl<'a> Report<'a> {
    fn problem(&mut self, problem: &'a Problem) -> String {
        // Without a place there is no picture, and one sentence reads better than a broken one.
        let (what, cure) = match problem.place {
            Some(_) => parts(&problem.message),
            None => (problem.message.as_str(), None),
        };
        let mut owner = owner(problem);
        let mut group = Group::with_title(title(problem, what));
        if let Some(place) = &problem.place {
            group = match self.excerpt(place) {
                None => group.element(Origin::path(place.file.to_string())),
                Some(excerpt) => group.element(snippet(&excerpt, place, &mut owner)),
            };
        }
        if let Some(owner) = owner {
            group = group.element(Level::NOTE.message(wrapped(&owner, NOTE_MARGIN)));
        }
        if let Some(cure) = cure {
            group = group.element(Level::HELP.message(wrapped(cure, NOTE_MARGIN)));
        }
        self.renderer.render(&[group])
    }

    fn excerpt(&mut self, place: &'a Place) -> Option<Excerpt> {
        let loaded = self.loaded;
        let source = self
            .sources
            .entry(&place.file)
            .or_insert_with(|| loaded.source(&place.file).map(Source::new));
        source.as_ref()?.excerpt(place)
    }
}

fn title(problem: &Problem, what: &str) -> Title<'static> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Notice => Level::NOTE.with_name("notice"),
    };
    let head = format!("{}[{}]: ", problem.severity.as_str(), problem.reason);
    level
        .primary_title(wrapped(what, head.len()))
        .id(problem.reason.to_string())
}

/// Columns before the text of a note, with line numbers of four digits.
const NOTE_MARGIN: usize = 13;

/// The line and the caret. The object stands beside the caret where there is room.
fn snippet(
    excerpt: &Excerpt,
    place: &Place,
    owner: &mut Option<String>,
) -> Snippet<'static, annotate_snippets::Annotation<'static>> {
    let caret = AnnotationKind::Primary.span(excerpt.span.clone());
    let digits = place.line.to_string().len();
    let columns = excerpt.text[..excerpt.span.end].chars().count();
    let fits = owner
        .as_ref()
        .is_some_and(|owner| digits + 3 + columns + 1 + owner.chars().count() <= WIDTH);
    let label = if fits { owner.take() } else { None };
    Snippet::source(excerpt.text.clone())
        .line_start(place.line as usize)
        .path(place.file.to_string())
        .annotation(caret.label(label))
}

/// Whose problem it is.
fn owner(problem: &Problem) -> Option<String> {
    let object = problem.object.as_ref()?;
    Some(match &problem.field {
        Some(field) => format!("in {object}, {field}"),
        None => format!("in {object}"),
    })
}

/// What is wrong, and what to do about it: messages end with the cure after a semicolon.
pub(crate) fn parts(message: &str) -> (&str, Option<&str>) {
    message
        .rsplit_once("; ")
        .map_or((message, None), |(what, cure)| (what, Some(cure)))
}

/// Breaks a text so that with `margin` columns before it no line is too long. Words stay whole.
pub(crate) fn wrapped(text: &str, margin: usize) -> String {
    let limit = WIDTH.saturating_sub(margin);
    let mut out = String::with_capacity(text.len() + 8);
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > limit {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}
