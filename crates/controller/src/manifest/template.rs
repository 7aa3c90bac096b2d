//! Templates that are taken for manifests.

use nuncio_compile::yaml::{self, Piece, Spot};

/// How directives and placeholders begin and end, and whether one may go on over several lines.
const FORMS: &[(&str, &str, bool)] = &[
    ("{{", "}}", true),
    ("{%", "%}", true),
    ("<%", "%>", true),
    ("${", "}", false),
    ("$(", ")", false),
    ("#{", "}", false),
    ("@@", "@@", false),
];

/// Directives that are looked at for the first one that is no part of a comment or a block.
const LOOKED_AT: usize = 100;

/// Bytes of a placeholder that ends on its line.
const LONGEST: usize = 256;

/// Lines above a directive that are looked at for the block that it may stand in.
const BLOCK: usize = 1000;

/// A directive or placeholder in a text, by its bytes.
struct Directive {
    begin: usize,
    end: usize,
}

/// Where the first directive of a document stands whose YAML cannot be read, if that is because it is a template. A
/// document may hold directives that are meant, and have a fault of its own.
pub(super) fn cause(piece: Piece<'_>) -> Option<Spot> {
    let text = piece.text;
    let directives = directives(text);
    let first = directives
        .iter()
        .take(LOOKED_AT)
        .find(|directive| !in_comment(text, directive.begin) && !in_block(text, directive.begin))?;
    let without = filled_in(text, &directives);
    let rest = Piece {
        text: &without,
        first_line: piece.first_line,
    };
    let is_cause = yaml::parse(rest).1.is_none() || stands_alone(text, first);
    is_cause.then(|| spot(piece, first.begin))
}

/// All of a text, in one pass.
fn directives(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    // Forms that end nowhere any more are not looked for again.
    let mut forms = FORMS.to_vec();
    let mut at = 0;
    while let Some(step) = text[at..].find(['{', '<', '$', '#', '@']) {
        let begin = at + step;
        let rest = &text[begin..];
        let form = forms.iter().position(|(start, ..)| rest.starts_with(start));
        let Some((number, (start, end, is_long))) = form.map(|number| (number, forms[number])) else {
            at = begin + 1;
            continue;
        };
        let inner = &rest[start.len()..];
        let reach = if is_long { inner } else { near(inner) };
        let length = reach.find(end);
        if is_long && length.is_none() {
            forms.remove(number);
        }
        // A hunk of a patch begins with `@@`, too.
        let is_hunk = |content: &str| start == "@@" && content.contains(char::is_whitespace);
        match length.filter(|length| !is_hunk(&reach[..*length])) {
            Some(length) => {
                at = begin + start.len() + length + end.len();
                found.push(Directive { begin, end: at });
            }
            None => at = begin + 1,
        }
    }
    found
}

/// As much of the line that a text begins with as a short placeholder may take.
fn near(text: &str) -> &str {
    let end = text
        .char_indices()
        .find(|(at, c)| *c == '\n' || *at >= LONGEST)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// A copy with a word of its own in place of each directive, and nothing in place of those that fill their lines.
fn filled_in(text: &str, directives: &[Directive]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut copied = 0;
    for (number, directive) in directives.iter().enumerate() {
        filled.push_str(&text[copied..directive.begin]);
        if !stands_alone(text, directive) {
            filled.push_str(&format!("x{number}"));
        }
        let lines = text[directive.begin..directive.end].matches('\n').count();
        filled.push_str(&"\n".repeat(lines));
        copied = directive.end;
    }
    filled.push_str(&text[copied..]);
    filled
}

/// Whether nothing else stands on the lines of a directive: it says what becomes of other lines.
fn stands_alone(text: &str, directive: &Directive) -> bool {
    let before = text[..directive.begin].trim_end_matches([' ', '\t']);
    let after = text[directive.end..].trim_start_matches([' ', '\t', '\r']);
    (before.is_empty() || before.ends_with('\n')) && (after.is_empty() || after.starts_with('\n'))
}

/// Whether a `#` before it on its line makes a comment of it.
fn in_comment(text: &str, at: usize) -> bool {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut quote = None;
    let mut last = ' ';
    for c in text[start..at].chars() {
        match (quote, c) {
            (Some(begin), c) if c == begin => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if last.is_whitespace() => return true,
            _ => {}
        }
        last = c;
    }
    false
}

/// Whether a line is a part of a block of text, such as one that holds a template on purpose.
fn in_block(text: &str, at: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut own = indent(&text[start..]);
    let above = text[..start].lines().rev().filter(|line| !line.trim().is_empty());
    for line in above.take(BLOCK) {
        if indent(line) >= own {
            continue;
        }
        own = indent(line);
        let last = line.rsplit([' ', ':']).next().unwrap_or_default();
        if last.starts_with(['|', '>']) && last.len() <= 3 {
            return true;
        }
    }
    false
}

fn spot(piece: Piece<'_>, at: usize) -> Spot {
    let before = &piece.text[..at];
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    Spot {
        line: piece
            .first_line
            .saturating_add(u32::try_from(line).unwrap_or(u32::MAX)),
        column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(u32, u32)> {
        let pieces = yaml::pieces(text);
        let mut faulty = pieces.into_iter().filter(|piece| yaml::parse(*piece).1.is_some());
        faulty.find_map(cause).map(|Spot { line, column }| (line, column))
    }

    #[test]
    fn a_template_is_found_by_what_keeps_it_from_being_read() {
        for (text, spot) in [
            ("a: {{ .x }}\n", (1, 4)),
            ("a: 1\n{{- if .x }}\nb: 2\n{{- end }}\n", (2, 1)),
            ("{% for x in y %}\na: {{ x }}\n{% endfor %}\n", (1, 1)),
            ("a: [${x}, 1]\n", (1, 5)),
            ("a: @@x@@\n", (1, 4)),
            ("a: \"{{ include \"x\" . }}\"\n", (1, 5)),
            (
                "a:\n{{/* one\ntwo */}}\n  b: {{ toYaml .x | nindent 4 }}\n",
                (2, 1),
            ),
            ("# {{ x }}\na: {{ y }}\n", (2, 4)),
            ("a: 1\n---\nb: {{ y }}\n", (3, 4)),
        ] {
            assert_eq!(found(text), Some(spot), "{text}");
        }
    }

    #[test]
    fn a_text_of_beginnings_alone_takes_one_pass() {
        for begin in ["{{", "${\n", "@@ ", "<% {% #{ $(\n", "{{ x }} ${y} # ${"] {
            assert_eq!(
                found(&format!("a: [\n{}", begin.repeat(100_000))),
                None,
                "{begin}"
            );
        }
    }

    #[test]
    fn a_fault_beside_directives_that_are_meant_is_no_template() {
        for text in [
            "# {{ x }}\na: 1\n b: 2\n",
            "a: 1 # {{ x }}\n b: 2\n",
            "a: \"{{ .Values.x }}\"\nb: [\n",
            "a: |\n  {{ .x }} b\nc: 1\n d: 2\n",
            "a: |\n  {{ if x }}\n  b\n  {{ end }}\n d: 1\n",
            "a: 1\n---\nb: '{{ x }}'\n---\nc: 1\n d: 2\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
