use serde_json::json;

use super::*;

/// All documents of a text, and the first fault.
fn read(text: &str) -> (Vec<Value>, Option<(u32, u32, String)>) {
    let mut values = Vec::new();
    let mut first = None;
    for piece in pieces(text) {
        let (documents, fault) = parse(piece);
        let mut faults: Vec<Fault> = fault.into_iter().collect();
        for document in documents {
            match document.into_value() {
                Ok(value) => values.push(value),
                Err(fault) => faults.push(fault),
            }
        }
        first = first.or(faults.into_iter().next());
    }
    (
        values,
        first.map(|fault| (fault.spot.line, fault.spot.column, fault.message)),
    )
}

fn value(text: &str) -> Value {
    let (mut values, fault) = read(text);
    assert_eq!(fault, None, "{text}");
    assert_eq!(values.len(), 1, "{text}");
    values.remove(0)
}

#[test]
fn documents_are_read() {
    let table = [
        ("a: 1", json!({"a": 1})),
        ("a: '1'\nb: \"true\"", json!({"a": "1", "b": "true"})),
        ("a: yes # comment", json!({"a": true})),
        ("a:\n- x\n- y: 1\n  z: 2", json!({"a": ["x", {"y": 1, "z": 2}]})),
        (
            "a: |\n  one\n  two\nb: >-\n  one\n  two",
            json!({"a": "one\ntwo\n", "b": "one two"}),
        ),
        ("a:\nb: ~", json!({"a": null, "b": null})),
        ("{a: [1, 2,], b: {c: d}}", json!({"a": [1, 2], "b": {"c": "d"}})),
        (
            "a: https://b.test:8443/x?y#z",
            json!({"a": "https://b.test:8443/x?y#z"}),
        ),
        ("a: \"*\"\nb: '*.test'", json!({"a": "*", "b": "*.test"})),
        ("? a\n: b", json!({"a": "b"})),
        ("1: a\ntrue: b", json!({"1": "a", "true": "b"})),
        ("\u{feff}a: 1", json!({"a": 1})),
        ("a: 1\r\nb: 2\r\n", json!({"a": 1, "b": 2})),
        ("%YAML 1.2\n---\na: 1\n...\n", json!({"a": 1})),
        ("a: !!str 5\nb: !!int \"5\"", json!({"a": "5", "b": 5})),
        ("a: &x 1\nb: *x", json!({"a": 1, "b": 1})),
        ("a: &x {k: v}\nb: *x", json!({"a": {"k": "v"}, "b": {"k": "v"}})),
        (
            "a: &x {k: v, l: w}\nb: {<<: *x, k: own}",
            json!({"a": {"k": "v", "l": "w"}, "b": {"k": "own", "l": "w"}}),
        ),
        (
            "a: &x {k: 1}\nb: &y {k: 2, m: 3}\nc: {<<: [*x, *y]}",
            json!({"a": {"k": 1}, "b": {"k": 2, "m": 3}, "c": {"k": 1, "m": 3}}),
        ),
        ("a: {\"<<\": b}", json!({"a": {"<<": "b"}})),
    ];
    for (text, expected) in table {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn json_is_read_with_its_own_escapes_and_tabs() {
    let text = "{\n\t\"a\": \"\\u00e9\\/\\ud83d\\ude00\\u003c\",\n\t\"b\": [1, -2.5e3, true, null],\n\t\"c\": {\"d\":\"e\"}\n}\n";
    assert_eq!(
        value(text),
        json!({"a": "é/😀<", "b": [1, -2500, true, null], "c": {"d": "e"}})
    );
    assert_eq!(
        value("{\"a\":{\"b\":[]},\"c\":\"x: y # z\"}"),
        json!({"a": {"b": []}, "c": "x: y # z"})
    );
}

#[test]
fn several_documents_and_empty_ones() {
    let (values, fault) = read(
        "---\n---\n# nothing\n---\na: 1\n--- # two\nb: |\n  --- x\n  text\n---\n\n--- {c: 3}\n...\nd: 4\n",
    );
    assert_eq!(fault, None);
    assert_eq!(
        values,
        [
            json!({"a": 1}),
            json!({"b": "--- x\ntext\n"}),
            json!({"c": 3}),
            json!({"d": 4})
        ]
    );
    assert_eq!(read("").0, Vec::<Value>::new());
    assert_eq!(read("\n# only a comment\n").0, Vec::<Value>::new());
}

/// A text, where its fault is, and the sentence about it.
const FAULTS: &[(&str, (u32, u32), &str)] = &[
    (
        "a: 1\n\tb: 2",
        (2, 1),
        "a tab stands where YAML wants spaces; indent with spaces only",
    ),
    (
        "a:\n  b: 1\n\tc: 2",
        (3, 1),
        "a tab stands where YAML wants spaces; indent with spaces only",
    ),
    (
        "hostname: *",
        (1, 11),
        "a plain value cannot begin with `*` or `&`; put it in quotes, such as \"*\"",
    ),
    (
        "a: *x",
        (1, 4),
        "this alias names no anchor of its document; define it before with `&`, or put the value in quotes",
    ),
    (
        "a: b: c",
        (1, 5),
        "a `:` stands where no value can begin; put the text in quotes, or correct the indentation of this line or the one above",
    ),
    (
        "a: 1\nb\nc: 2",
        (2, 1),
        "this line is no `key: value`; add the `:`, or indent it as part of the value above",
    ),
    (
        "a: @b",
        (1, 4),
        "a plain value cannot begin with this character; put the value in quotes",
    ),
    (
        "a: [1, 2",
        (1, 9),
        "the list that `[` begins is not closed; add the `,` or `]` that is missing",
    ),
    (
        "a: \"b",
        (1, 4),
        "the quoted text that begins here never ends; add the closing quote",
    ),
    (
        "a: \"\\d\"",
        (1, 4),
        "in double quotes a `\\` begins an escape; write `\\\\`, or use single quotes",
    ),
    (
        "a: 1\na: 2",
        (2, 1),
        "the key `a` stands twice, on lines 1 and 2; keep one of them",
    ),
    (
        "kind: a\nkind: b",
        (2, 1),
        "the key `kind` stands twice, on lines 1 and 2; put `---` before it if another object begins here, else keep one of them",
    ),
    (
        "a: !vault x",
        (1, 4),
        "the tag !vault means nothing in a manifest; leave it out",
    ),
    ("[a]: b", (1, 1), "a key must be a text; put it in quotes"),
    (
        "a: {<<: 5}",
        (1, 9),
        "`<<` takes a mapping or a list of mappings; name one with an alias",
    ),
    (
        "a: &x [*x]",
        (1, 8),
        "this alias stands for a value that holds it; write the value out",
    ),
    (
        "a: .inf",
        (1, 4),
        ".inf is a number that manifests cannot hold; put it in quotes if text is meant",
    ),
    (
        "x: 1\n---\nfoo: bar\n baz: 1",
        (4, 5),
        "a `:` stands where no value can begin; put the text in quotes, or correct the indentation of this line or the one above",
    ),
    (
        "a:\n    b: 1\n  c: 2",
        (3, 3),
        "this line fits no level of indentation above it; indent it like the keys it belongs to",
    ),
    (
        "a:\n- b\nc",
        (3, 1),
        "this line is no `key: value`; add the `:`, or indent it as part of the value above",
    ),
    (
        "a:\n  - b\n  c: 1",
        (3, 3),
        "this line does not continue the list above it; begin it with `- `, or correct its indentation",
    ),
    (
        "a: [",
        (1, 5),
        "a value is missing here; write it, or close the bracket before it",
    ),
    (
        "a: {b: 1",
        (1, 9),
        "the mapping that `{` begins is not closed; add the `,` or `}` that is missing",
    ),
    (
        "a: [b\nc: 1",
        (1, 4),
        "what this bracket begins is not closed before the next line of its level; add the closing bracket",
    ),
    (
        "a: # [\n  b: {c: '['\nd: 1",
        (2, 6),
        "what this bracket begins is not closed before the next line of its level; add the closing bracket",
    ),
    (
        "a:\n  b: \"c\n  d: 1",
        (2, 6),
        "the quoted text that begins here goes on over lines that are indented less; add the closing quote",
    ),
    (
        "a: 1\n--\nb: 1",
        (2, 1),
        "this line is no separator of documents; write `---`, with nothing after it",
    ),
    (
        "a:\u{a0}b\nc: 1",
        (1, 3),
        "a space that is none to YAML stands here, such as a no-break space; write an ordinary one",
    ),
    (
        "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> c",
        (2, 1),
        "this is a mark of a merge conflict; keep one of the two sides, and remove the marks",
    ),
    (": 1", (1, 1), "a value has no key; write the key before the `:`"),
];

#[test]
fn faults_name_their_place_and_cure() {
    let mut wrong = Vec::new();
    for (text, (line, column), message) in FAULTS {
        let fault = read(text).1;
        if fault != Some((*line, *column, (*message).to_owned())) {
            wrong.push(format!("{text:?}: {fault:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = "a0: &a0 [xxxxxxxxxxxxxxxxxxxx, y, z]\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        text.push_str(&format!(
            "a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n"
        ));
    }
    let (values, fault) = read(&text);
    assert!(values.is_empty());
    assert_eq!(
        fault.unwrap().2,
        "the aliases of this document add more than 16 MiB to it; write the values out, or use fewer"
    );
}

#[test]
fn nesting_ends_somewhere() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(10_000),
    ] {
        let (values, fault) = read(&text);
        assert!(values.is_empty());
        assert!(fault.is_some());
    }
    let deep = format!("{}{}", "[".repeat(99), "]".repeat(99));
    assert_eq!(read(&deep).1, None);
}

#[test]
fn places_are_those_of_the_file() {
    let text = "a: 1\n---\n# x\nb:\n  c: d\n";
    let (documents, _) = parse(pieces(text)[1]);
    assert_eq!(documents[0].spot, Spot { line: 4, column: 1 });
    let Content::Map(entries) = &documents[0].content else {
        panic!("no map")
    };
    let Content::Map(inner) = &entries[0].1.content else {
        panic!("no map")
    };
    assert_eq!(inner[0].0.spot, Spot { line: 5, column: 3 });
    assert_eq!(inner[0].1.spot, Spot { line: 5, column: 6 });
}

#[test]
fn no_text_makes_it_panic() {
    let seed = "a: &x {<<: *x, 'b': \"\\ud83d\\ude00\", c: [1, !!str 2]}\n---\n- |\n  t\n\t- é\n%A\n... \n? y\n: z\n";
    for cut in (0..=seed.len()).filter(|cut| seed.is_char_boundary(*cut)) {
        let _ = read(&seed[..cut]);
        let _ = read(&seed[cut..]);
        let _ = read(&format!("{}{}", &seed[cut..], &seed[..cut]));
    }
    let _ = read("\\ud83d\\ud83d");
    let _ = read("\"\\ud83d\\ud83d\\u\"");
    let _ = read("\"\\ud83dé\\udé\"");
}
