use std::fs;
use std::path::PathBuf;

use nuncio_compile::Options;
use nuncio_model::ObjectRef;
use tempfile::TempDir;

use super::*;

const TEXT: &str = "kind: Mapping\nspec:\n  prefx: /\n";

fn loaded(folder: &TempDir, text: &str) -> (Loaded, PathBuf) {
    let path = folder.path().join("m.yaml");
    fs::write(&path, text).unwrap();
    (
        nuncio_controller::load(std::slice::from_ref(&path), &Options::default()),
        path,
    )
}

fn problem(severity: Severity, message: &str, place: Option<(&PathBuf, u32, u32)>) -> Problem {
    Problem {
        severity,
        reason: "unknown_field".into(),
        message: message.to_owned(),
        object: Some(ObjectRef::new("Mapping", "default", "web")),
        field: Some("spec.prefx".to_owned()),
        place: place.map(|(path, line, column)| Place {
            file: path.to_string_lossy().into(),
            line,
            column,
        }),
    }
}

fn shown(problems: &[Problem], loaded: &Loaded, folder: &TempDir) -> String {
    let mut out = Vec::new();
    write(&mut out, problems, loaded, false).unwrap();
    let folder = format!("{}/", folder.path().display());
    String::from_utf8(out).unwrap().replace(&folder, "")
}

#[test]
fn a_problem_is_shown_with_its_line_and_caret() {
    let folder = tempfile::tempdir().unwrap();
    let (loaded, path) = loaded(&folder, TEXT);
    let message = "Mapping has no field `spec.prefx`, so it has no effect; did you mean `spec.prefix`?";
    let found = problem(Severity::Warning, message, Some((&path, 3, 3)));
    let expected = "\
warning[unknown_field]: Mapping has no field `spec.prefx`, so it has no effect
 --> m.yaml:3:3
  |
3 |   prefx: /
  |   ^^^^^ in Mapping web.default, spec.prefx
  |
  = help: did you mean `spec.prefix`?

1 warning in 1 file
";
    assert_eq!(shown(&[found], &loaded, &folder), expected);
}

#[test]
fn a_problem_without_line_names_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let (loaded, _) = loaded(&folder, TEXT);
    let nowhere = problem(Severity::Notice, "something is so", None);
    let elsewhere = problem(
        Severity::Error,
        "something is wrong",
        Some((&folder.path().join("gone"), 1, 1)),
    );
    let expected = "\
notice[unknown_field]: something is so
 |
 = note: in Mapping web.default, spec.prefx

error[unknown_field]: something is wrong
--> gone
 = note: in Mapping web.default, spec.prefx

1 error, 1 notice in 1 file
";
    assert_eq!(shown(&[nowhere, elsewhere], &loaded, &folder), expected);
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    let folder = tempfile::tempdir().unwrap();
    let long = "word ".repeat(60);
    let (loaded, path) = loaded(&folder, &format!("a: {long}\nb: {}\n", "x".repeat(300)));
    let message = format!("{long}; {long}");
    let problems: Vec<Problem> = [(1, 4), (1, 250), (2, 4), (2, 280)]
        .into_iter()
        .map(|(line, column)| problem(Severity::Error, &message, Some((&path, line, column))))
        .collect();
    for line in shown(&problems, &loaded, &folder).lines() {
        assert!(line.chars().count() <= WIDTH, "{}: {line}", line.chars().count());
    }
}

#[test]
fn colours_are_for_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let (loaded, path) = loaded(&folder, TEXT);
    let problems = [problem(Severity::Error, "x; y", Some((&path, 3, 3)))];
    for colour in [false, true] {
        let mut out = Vec::new();
        write(&mut out, &problems, &loaded, colour).unwrap();
        assert_eq!(out.contains(&0x1b), colour);
    }
}

#[test]
fn the_summary_counts() {
    let of = |severity| problem(severity, "x", None);
    let (error, warning, notice) = (of(Severity::Error), of(Severity::Warning), of(Severity::Notice));
    let several = [
        error.clone(),
        notice.clone(),
        error,
        warning,
        notice.clone(),
        notice,
    ];
    assert_eq!(summary(&several, 4), "2 errors, 1 warning, 3 notices in 4 files");
    assert_eq!(summary(&several[5..], 1), "1 notice in 1 file");
    assert_eq!(summary(&[], 2), "no problems in 2 files");
    assert_eq!(summary(&[], 0), "no problems in 0 files");
}
