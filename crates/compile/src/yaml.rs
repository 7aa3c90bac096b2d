//! YAML (and JSON, which is a part of it) into values with positions.
//!
//! A text is cut at its `---` lines first and each piece is parsed alone, so that a broken document
//! takes no other with it. Documents are read into a tree that knows where everything stands; the
//! tree becomes a `serde_json::Value` for the compiler, or is searched for the place of a field.

mod fault;
mod scalar;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};

pub use fault::Fault;

/// Levels of nesting that are read.
const DEPTH: usize = 100;

/// Bytes that the aliases of one document may add, so that a few lines cannot grow without bound.
const EXPANSION: usize = 16 * 1024 * 1024;

/// Characters of a key that a message repeats.
const KEY: usize = 64;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Of the file.
    pub line: u32,
    /// In characters.
    pub column: u32,
}

impl Spot {
    fn of(marker: Marker, first_line: u32) -> Self {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
        Self {
            line: line.saturating_add(first_line).saturating_sub(1),
            column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1),
        }
    }
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub spot: Spot,
    /// What.
    pub content: Content,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Null, boolean, number or text.
    Leaf(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text. May hold a key twice until it becomes a value.
    Map(Vec<(Key, Node)>),
}

/// The key of a mapping's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text, whatever type YAML would give it.
    pub text: String,
    /// Where it begins.
    pub spot: Spot,
}

/// A piece of a text that holds its documents alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The piece.
    pub text: &'a str,
    /// Line of the file that it begins on.
    pub first_line: u32,
}

/// Cuts a text before each line that begins a document. YAML allows `---` at the start of a line
/// nowhere else, not even in a block of text, so the cut needs no parser.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let (mut start, mut first_line, mut line) = (0, 1, 1);
    let mut position = 0;
    for content in text.split_inclusive('\n') {
        if position > start && begins_document(content) {
            pieces.push(Piece {
                text: &text[start..position],
                first_line,
            });
            (start, first_line) = (position, line);
        }
        position += content.len();
        line += 1;
    }
    pieces.push(Piece {
        text: &text[start..],
        first_line,
    });
    pieces.retain(|piece| !is_preamble(piece.text));
    pieces
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Nothing but blank lines, comments and directives such as `%YAML 1.2`.
fn is_preamble(text: &str) -> bool {
    text.lines()
        .all(|line| line.trim().is_empty() || line.starts_with('%') || line.trim_start().starts_with('#'))
}

/// The documents of a piece up to its first fault. Empty documents are left out.
pub fn parse(piece: Piece<'_>) -> (Vec<Node>, Option<Fault>) {
    let text = pair_surrogates(piece.text);
    let mut reader = Reader {
        text: &text,
        parser: Parser::new_from_str(&text),
        first_line: piece.first_line,
        anchors: HashMap::new(),
        expanded: 0,
    };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(node)) if node.content == Content::Leaf(Value::Null) => {}
            Ok(Some(node)) => documents.push(node),
            Ok(None) => return (documents, None),
            Err(fault) => return (documents, Some(fault)),
        }
    }
}

/// JSON writes a character beyond U+FFFF as two escapes; YAML knows only whole characters.
fn pair_surrogates(text: &str) -> Cow<'_, str> {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::new();
    let mut copied = 0;
    for (at, _) in text.match_indices("\\u") {
        let (Some(high @ 0xD800..=0xDBFF), Some(low @ 0xDC00..=0xDFFF)) = (unit(at), unit(at + 6)) else {
            continue;
        };
        let Some(whole) = char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)) else {
            continue;
        };
        out.push_str(&text[copied..at]);
        out.push(whole);
        copied = at + 12;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    first_line: u32,
    /// What each anchor stands for, and how many bytes a copy of it takes.
    anchors: HashMap<usize, (Node, usize)>,
    expanded: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Fault> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::DocumentStart(_), _) => {
                    self.anchors.clear();
                    self.expanded = 0;
                    let (event, span) = self.next()?;
                    return self.node(event, span, 0).map(Some);
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Fault::of_scan(&error, self.text, self.first_line)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn spot(&self, span: Span) -> Spot {
        Spot::of(span.start, self.first_line)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let spot = self.spot(span);
        if depth > DEPTH {
            return Err(Fault::new(
                spot,
                format!("the document is nested too deep; {DEPTH} levels are read"),
            ));
        }
        let (anchor, content) = match event {
            Event::Alias(anchor) => return self.alias(anchor, spot),
            Event::Scalar(text, style, anchor, tag) => {
                let value = leaf(text, style, tag.as_deref()).map_err(|message| Fault::new(spot, message))?;
                (anchor, Content::Leaf(value))
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", spot)?;
                (anchor, Content::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", spot)?;
                (anchor, Content::Map(self.map(depth)?))
            }
            _ => {
                return Err(Fault::new(
                    spot,
                    "the text ends in the middle of a value; the file may be half written",
                ));
            }
        };
        let node = Node { spot, content };
        if anchor > 0 {
            let weight = node.weight();
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        Ok(node)
    }

    /// A copy of what an alias stands for, at the alias's own place.
    fn alias(&mut self, anchor: usize, spot: Spot) -> Result<Node, Fault> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(Fault::new(
                spot,
                "this alias stands for a value that holds it; write the value out",
            ));
        };
        self.expanded = self.expanded.saturating_add(*weight);
        if self.expanded > EXPANSION {
            return Err(Fault::new(
                spot,
                "the aliases of this document add more than 16 MiB to it; write the values out, or use fewer",
            ));
        }
        Ok(Node {
            spot,
            content: node.content.clone(),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut entries = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(entries),
                (event, span) => entries.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(with_merged(entries, merged));
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.key(event, span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if is_merge {
                merge(value, &mut merged)?;
            } else {
                entries.push((key, value));
            }
        }
    }

    fn key(&mut self, event: Event<'a>, span: Span) -> Result<Key, Fault> {
        let spot = self.spot(span);
        let text = match event {
            Event::Scalar(text, _, anchor, _) => {
                if anchor > 0 {
                    let node = Node {
                        spot,
                        content: Content::Leaf(Value::String(text.clone().into_owned())),
                    };
                    let weight = node.weight();
                    self.anchors.insert(anchor, (node, weight));
                }
                text.into_owned()
            }
            Event::Alias(anchor) => match self.alias(anchor, spot)?.content {
                Content::Leaf(Value::String(text)) => text,
                _ => return Err(not_a_key(spot)),
            },
            _ => return Err(not_a_key(spot)),
        };
        if text.is_empty() {
            return Err(Fault::new(
                spot,
                "a value has no key; write the key before the `:`",
            ));
        }
        Ok(Key { text, spot })
    }
}

fn not_a_key(spot: Spot) -> Fault {
    Fault::new(spot, "a key must be a text; put it in quotes")
}

fn leaf(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match (tag, style) {
        (Some(tag), _) => scalar::tagged(&text, tag),
        (None, ScalarStyle::Plain) => scalar::plain(&text),
        (None, _) => Ok(Value::String(text.into_owned())),
    }
}

fn check_tag(tag: Option<&Tag>, kind: &str, spot: Spot) -> Result<(), Fault> {
    tag.map_or(Ok(()), |tag| scalar::collection(tag, kind))
        .map_err(|message| Fault::new(spot, message))
}

/// What `<<` adds: the entries of a mapping, or of each mapping in a list.
fn merge(value: Node, merged: &mut Vec<(Key, Node)>) -> Result<(), Fault> {
    let wrong = |spot| {
        Fault::new(
            spot,
            "`<<` takes a mapping or a list of mappings; name one with an alias",
        )
    };
    match value.content {
        Content::Map(entries) => merged.extend(entries),
        Content::List(nodes) => {
            for node in nodes {
                match node.content {
                    Content::Map(entries) => merged.extend(entries),
                    _ => return Err(wrong(node.spot)),
                }
            }
        }
        Content::Leaf(_) => return Err(wrong(value.spot)),
    }
    Ok(())
}

/// A mapping's own keys win over merged ones, and earlier merged ones over later.
fn with_merged(mut entries: Vec<(Key, Node)>, merged: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
    if merged.is_empty() {
        return entries;
    }
    let mut known: std::collections::HashSet<String> =
        entries.iter().map(|(key, _)| key.text.clone()).collect();
    for (key, value) in merged {
        if known.insert(key.text.clone()) {
            entries.push((key, value));
        }
    }
    entries
}

impl Node {
    /// About the bytes a copy takes.
    fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.content {
                Content::Leaf(Value::String(text)) => text.len(),
                Content::Leaf(_) => 0,
                Content::List(nodes) => nodes.iter().map(Self::weight).sum(),
                Content::Map(entries) => entries
                    .iter()
                    .map(|(key, node)| size_of::<Key>() + key.text.len() + node.weight())
                    .sum(),
            }
    }

    /// The value without its places; a key that stands twice is a fault.
    pub fn into_value(self) -> Result<Value, Fault> {
        match self.content {
            Content::Leaf(value) => Ok(value),
            Content::List(nodes) => nodes
                .into_iter()
                .map(Self::into_value)
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Content::Map(entries) => map_value(entries).map(Value::Object),
        }
    }
}

fn map_value(entries: Vec<(Key, Node)>) -> Result<Map<String, Value>, Fault> {
    if let Some(fault) = repeated(&entries) {
        return Err(fault);
    }
    entries
        .into_iter()
        .map(|(key, node)| Ok((key.text, node.into_value()?)))
        .collect()
}

/// The first key that stands twice.
fn repeated(entries: &[(Key, Node)]) -> Option<Fault> {
    let mut lines = HashMap::with_capacity(entries.len());
    entries.iter().find_map(|(key, _)| {
        let first = lines.insert(key.text.as_str(), key.spot.line)?;
        let fix = match key.text.as_str() {
            "apiVersion" | "kind" if key.spot.column == 1 => {
                "put `---` before it if another object begins here, else keep one of them"
            }
            _ => "keep one of them",
        };
        Some(Fault::new(
            key.spot,
            format!(
                "the key `{}` stands twice, on lines {first} and {}; {fix}",
                key.text.chars().take(KEY).collect::<String>(),
                key.spot.line
            ),
        ))
    })
}
