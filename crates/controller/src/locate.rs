//! Where in a text a field stands.

use nuncio_compile::yaml::{self, Content, Key, Node, Piece, Spot};
use nuncio_model::{ObjectRef, Problem};
use serde_json::Value;

/// A text in which problems are looked up, document after document.
pub(crate) struct Text<'a> {
    text: &'a str,
    pieces: Vec<Piece<'a>>,
    /// The piece that was parsed last, and its documents: problems come in the order of the text.
    parsed: Option<(u32, Vec<Node>)>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            pieces: yaml::pieces(text),
            parsed: None,
        }
    }

    /// Where a problem's caret belongs: at the key when the field itself is wrong (unknown, without
    /// effect) or its value begins on another line, else at the value. Where a field is missing, at
    /// the nearest key above. `start_line` is where the problem's document starts.
    pub(crate) fn spot(&mut self, start_line: u32, problem: &Problem) -> Option<Spot> {
        let field = problem.field.as_deref().filter(|field| !field.is_empty())?;
        let document = self.document(start_line)?;
        let root = problem
            .object
            .as_ref()
            .and_then(|object| item(document, object))
            .unwrap_or(document);
        let found = follow(root, field);
        let in_annotation = found.annotation().map(|(scalar, index, field)| {
            let inner = Lines::of(scalar)?;
            let document = inner.document(index)?;
            let spot = spot_in(&document, &inner.path(&document, field), names_the_key(problem));
            Some((scalar.spot.line, inner.text.to_owned(), spot))
        });
        let spot = spot_of(&found, root, names_the_key(problem));
        match in_annotation.flatten() {
            Some((line, inner, at)) => outer(self.text, line, &inner, at).or(Some(spot)),
            None => Some(spot),
        }
    }

    /// The document that starts on `start_line`.
    fn document(&mut self, start_line: u32) -> Option<&Node> {
        let after = self
            .pieces
            .partition_point(|piece| piece.first_line <= start_line);
        let piece = *self.pieces.get(after.checked_sub(1)?)?;
        if self
            .parsed
            .as_ref()
            .is_none_or(|(line, _)| *line != piece.first_line)
        {
            self.parsed = Some((piece.first_line, yaml::parse(piece).0));
        }
        let (_, documents) = self.parsed.as_ref()?;
        documents.iter().find(|node| node.spot.line == start_line)
    }
}

fn spot_in(root: &Node, field: &str, names_the_key: bool) -> Spot {
    spot_of(&follow(root, field), root, names_the_key)
}

fn spot_of(found: &Found<'_>, root: &Node, names_the_key: bool) -> Spot {
    if found.whole && !names_the_key {
        let beside = |node: &&Node| found.key.is_none_or(|key| key.line == node.spot.line) && !is_null(node);
        let value = found.node.filter(beside).map(|node| node.spot);
        return value.or(found.key).unwrap_or(root.spot);
    }
    found.key.unwrap_or(root.spot)
}

/// The text of an annotation that holds documents.
struct Lines<'a> {
    text: &'a str,
}

impl<'a> Lines<'a> {
    fn of(scalar: &'a Node) -> Option<Self> {
        match &scalar.content {
            Content::Leaf(Value::String(text)) => Some(Self { text }),
            _ => None,
        }
    }

    /// The document of this number, counted as compile does: one that cannot be read has a number, too.
    fn document(&self, index: usize) -> Option<Node> {
        let mut documents = Vec::new();
        for piece in yaml::pieces(self.text) {
            let (nodes, fault) = yaml::parse(piece);
            documents.extend(nodes.into_iter().map(Some));
            documents.extend(fault.map(|_| None));
        }
        documents.into_iter().nth(index).flatten()
    }

    /// The path as it is written: most documents of annotations have neither `spec` nor `metadata`.
    fn path(&self, document: &Node, field: &str) -> String {
        let whole = follow(document, field).whole || child(document, "metadata").is_some();
        let flat = || field.strip_prefix("spec").or(field.strip_prefix("metadata"));
        let path = if whole { None } else { flat() };
        path.unwrap_or(field).trim_start_matches('.').to_owned()
    }
}

/// Where a spot in a block of text is in the file, if the block is written there line by line. Its value begins on
/// `line` or on the next, or with the empty lines before.
fn outer(file: &str, line: u32, block: &str, at: Spot) -> Option<Spot> {
    let indent = |line: &str| line.chars().take_while(|character| *character == ' ').count();
    let inner = block
        .lines()
        .nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
    let empty = block.lines().take_while(|line| line.trim().is_empty()).count();
    let before = line.saturating_sub(u32::try_from(empty).ok()?);
    [line, line + 1, before].into_iter().find_map(|first| {
        let line = first + at.line - 1;
        let outer = file.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let moved = indent(outer).checked_sub(indent(inner))?;
        let same = outer.trim() == inner.trim();
        let column = at.column + u32::try_from(moved).ok()?;
        same.then_some(Spot { line, column })
    })
}

/// Reasons that are about a field's being there, whatever its value.
const ABOUT_KEYS: &[&str] = &[
    "unknown_field",
    "not_supported_yet",
    "no_effect_upstream",
    "ca_without_effect",
    "conflicting_fields",
];

fn names_the_key(problem: &Problem) -> bool {
    ABOUT_KEYS.contains(&&*problem.reason)
}

/// The item of a `List` that is this object.
fn item<'a>(document: &'a Node, object: &ObjectRef) -> Option<&'a Node> {
    let Content::List(items) = &child(document, "items")?.1.content else {
        return None;
    };
    items.iter().find(|item| {
        text_at(item, &["kind"]) == Some(&*object.kind)
            && text_at(item, &["metadata", "name"]) == Some(&*object.name)
            && text_at(item, &["metadata", "namespace"]).unwrap_or("default") == &*object.namespace
    })
}

fn text_at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    let end = path
        .iter()
        .try_fold(node, |node, key| child(node, key).map(|(_, node)| node))?;
    match &end.content {
        Content::Leaf(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn child<'a>(node: &'a Node, key: &str) -> Option<(&'a Key, &'a Node)> {
    let Content::Map(entries) = &node.content else {
        return None;
    };
    entries
        .iter()
        .find(|(k, _)| k.text == key)
        .map(|(key, node)| (key, node))
}

/// Nothing was written, so there is nothing to point at.
fn is_null(node: &Node) -> bool {
    node.content == Content::Leaf(Value::Null)
}

/// How far a path leads into a document.
struct Found<'a> {
    /// Key of the last step that exists; none for an entry of a list.
    key: Option<Spot>,
    /// Its value.
    node: Option<&'a Node>,
    /// What is left of the path.
    rest: &'a str,
    /// Whether the path was followed to its end.
    whole: bool,
}

impl<'a> Found<'a> {
    /// The text of an annotation, and the document and field in it that the rest of the path names.
    fn annotation(&self) -> Option<(&'a Node, usize, &'a str)> {
        let (index, field) = self.rest.strip_prefix('[')?.split_once(']')?;
        Some((self.node?, index.parse().ok()?, field.trim_start_matches('.')))
    }
}

fn follow<'a>(root: &'a Node, field: &'a str) -> Found<'a> {
    let mut found = Found {
        key: None,
        node: Some(root),
        rest: field,
        whole: false,
    };
    let (mut node, mut rest) = (root, field);
    while !rest.is_empty() {
        let Some((key, next, left)) = step(node, rest) else {
            return found;
        };
        (node, rest) = (next, left);
        found.key = Some(key);
        found.node = Some(next);
        found.rest = rest;
    }
    found.whole = true;
    found
}

/// One step along a path: the place of the key or entry, what it holds, and the path that is left.
/// Keys may hold dots themselves (`data.tls.crt`), so the longest key that fits is taken.
fn step<'a, 'p>(node: &'a Node, path: &'p str) -> Option<(Spot, &'a Node, &'p str)> {
    match &node.content {
        Content::Leaf(_) => None,
        Content::List(entries) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let entry = entries.get(index.parse::<usize>().ok()?)?;
            Some((entry.spot, entry, rest.strip_prefix('.').unwrap_or(rest)))
        }
        Content::Map(entries) => entries
            .iter()
            .filter_map(|(key, node)| Some((key, node, after_key(path, &key.text)?)))
            .max_by_key(|(key, ..)| key.text.len())
            .map(|(key, node, rest)| (key.spot, node, rest)),
    }
}

/// What follows `key` at the front of a path, written plain or as `["key"]`.
fn after_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let quoted = || path.strip_prefix("[\"")?.strip_prefix(key)?.strip_prefix("\"]");
    let rest = path.strip_prefix(key).or_else(quoted)?;
    match rest.as_bytes() {
        [] | [b'[', ..] => Some(rest),
        [b'.', ..] => Some(&rest[1..]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nuncio_model::Severity;

    use super::*;

    const TEXT: &str = "\
# a comment
apiVersion: v1
kind: Mapping
metadata:
  name: a
  labels:
    a.b/c: d
spec:
  hosts: [x, y, z]
  headers:
    x-foo: 1
  list:
  - name: one
  - name: two
    port: http
  prefix: /
  tls:
---
apiVersion: v1
kind: List
items:
- kind: Secret
  metadata: {name: one}
  data: {tls.crt: AA, tls.key: BB}
- kind: Secret
  metadata: {name: two}
  data: {tls.crt: CC}
";

    fn spot(text: &str, start_line: u32, problem: &Problem) -> Option<Spot> {
        Text::new(text).spot(start_line, problem)
    }

    fn problem(reason: &'static str, field: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            reason: reason.into(),
            message: String::new(),
            object: None,
            field: Some(field.to_owned()),
            place: None,
        }
    }

    #[test]
    fn values_keys_and_missing_fields_are_found() {
        let table = [
            ("wrong_type", "spec.prefix", (16, 11)),
            ("unknown_field", "spec.prefix", (16, 3)),
            ("wrong_type", "spec.hosts[2]", (9, 17)),
            ("wrong_type", "spec.hosts", (9, 10)),
            ("wrong_type", "spec.headers", (10, 3)),
            ("wrong_type", "spec.headers.x-foo", (11, 12)),
            ("wrong_type", "spec.list[1].port", (15, 11)),
            ("wrong_type", "metadata.labels", (6, 3)),
            ("wrong_type", "metadata.labels.a.b/c", (7, 12)),
            ("wrong_type", "metadata.labels[\"a.b/c\"]", (7, 12)),
            ("wrong_type", "spec.tls", (17, 3)),
            ("missing", "spec.service", (8, 1)),
            ("missing", "status", (2, 1)),
            ("wrong_type", "spec.hosts[9]", (9, 3)),
            ("unknown_field", "spec.list[0].name", (13, 5)),
        ];
        for (reason, field, (line, column)) in table {
            let found = spot(TEXT, 2, &problem(reason, field));
            assert_eq!(found, Some(Spot { line, column }), "{reason} {field}");
        }
    }

    #[test]
    fn fields_in_an_annotation_are_found_where_it_is_written_by_lines() {
        let text = "\
kind: Service
metadata:
  annotations:
    getambassador.io/config: |-

      ---
      apiVersion: ambassador/v1
      kind: Mapping
      name: a
      service: x
      ---
      kind: Mapping
      metadata: {name: b}
      spec:
        timeout_ms: soon
    folded: >-
      kind: Mapping
      name: c
    quoted: \"kind: Mapping\\nname: d\\n\"
";
        let annotation = "metadata.annotations.getambassador.io/config";
        for (field, (line, column)) in [
            (format!("{annotation}[0].apiVersion"), (7, 19)),
            (format!("{annotation}[0].spec.service"), (10, 16)),
            (format!("{annotation}[0].metadata.name"), (9, 13)),
            (format!("{annotation}[0].spec.prefix"), (7, 7)),
            (format!("{annotation}[1].spec.timeout_ms"), (15, 21)),
            (format!("{annotation}[1].spec.prefix"), (14, 7)),
            (format!("{annotation}[1]"), (12, 7)),
            (format!("{annotation}[7].spec"), (4, 5)),
            ("metadata.annotations.folded[0].spec.name".to_owned(), (16, 5)),
            ("metadata.annotations.quoted[0].spec.name".to_owned(), (19, 5)),
        ] {
            let found = spot(text, 1, &problem("wrong_type", &field));
            assert_eq!(found, Some(Spot { line, column }), "{field}");
        }
    }

    #[test]
    fn items_of_a_list_are_found_by_name() {
        let mut problem = problem("bad_pem", "data.tls.crt");
        problem.object = Some(ObjectRef::new("Secret", "default", "two"));
        assert_eq!(spot(TEXT, 19, &problem), Some(Spot { line: 27, column: 19 }));
    }

    #[test]
    fn a_problem_without_field_stays_where_it_is() {
        let mut whole = problem("duplicate", "");
        assert_eq!(spot(TEXT, 2, &whole), None);
        whole.field = None;
        assert_eq!(spot(TEXT, 2, &whole), None);
        assert_eq!(
            spot(TEXT, 3, &problem("x", "spec")),
            None,
            "no document starts there"
        );
    }
}
