//! YAML for tests: enough of the core schema for manifests, no anchors.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// All documents of a text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut events = Parser::new_from_str(text).map(|event| event.expect("the test's YAML is well formed").0);
    while let Some(event) = events.next() {
        if let Event::DocumentStart(_) = event {
            let first = events.next().expect("a document has content");
            documents.push(value(first, &mut events));
        }
    }
    documents.retain(|document| !document.is_null());
    documents
}

fn value<'i>(event: Event<'i>, events: &mut dyn Iterator<Item = Event<'i>>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, _) => plain(&text),
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match events.next().expect("the sequence ends") {
                    Event::SequenceEnd => return Value::Array(items),
                    item => items.push(value(item, events)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut fields = Map::new();
            loop {
                match events.next().expect("the mapping ends") {
                    Event::MappingEnd => return Value::Object(fields),
                    Event::Scalar(key, ..) => {
                        let item = events.next().expect("a key has a value");
                        fields.insert(key.into_owned(), value(item, events));
                    }
                    other => panic!("{other:?} is no key"),
                }
            }
        }
        other => panic!("{other:?} is not supported in tests"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let number = text.parse::<i64>().map(Value::from).ok();
            let float = || {
                text.parse::<f64>()
                    .ok()
                    .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
            };
            number
                .or_else(|| float().map(Value::from))
                .unwrap_or_else(|| Value::String(text.into()))
        }
    }
}
