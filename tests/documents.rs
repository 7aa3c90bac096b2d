//! The documents and the house rules that a machine can check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nuncio_model::{Alert, Reason};

use crate::support::program::{finish, repository};

/// Files of the repository with this ending, without what is built or fetched.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                if name != "target" && name != ".git" && name != "out" && name != "node_modules" {
                    walk(&path, ending, found);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(repository(), ending, &mut found);
    found.sort();
    found
}

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files(".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in links(&text).filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let found = there.exists()
                && (heading.is_empty() || anchors(&there).iter().any(|anchor| anchor == heading));
            assert!(found, "{}: {target} leads nowhere", path.display());
        }
    }
}

/// What links to the headings of a document end in, as GitHub makes it.
fn anchors(document: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = line.trim_start_matches('#').trim().chars();
            kept.filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
                .collect()
        })
        .collect()
}

/// Each reason is looked up in a table by code, status and flag, and leads to a heading of its own or its family.
#[test]
fn every_failure_reason_has_its_place_on_its_page() {
    let page = std::fs::read_to_string(repository().join("docs/tls-failures.md")).unwrap();
    let rows: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| [`")?.split(" | ");
            Some((cells.next()?.split('`').next()?, cells.next()?))
        })
        .collect();
    let told = |reason: Reason| match reason {
        // An overdue list refuses nobody.
        Reason::CrlExpired => "none, it is served".to_owned(),
        reason => format!("{} {}", reason.status(), reason.flag()),
    };
    let alert = ("alert_received:NAME", told(Reason::AlertReceived(Alert::Unknown)));
    let all: BTreeSet<(&str, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.code(), told(*reason)))
        .chain([alert])
        .collect();
    let all: BTreeSet<(&str, &str)> = all.iter().map(|(code, told)| (*code, &**told)).collect();
    assert_eq!(rows, all);
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("### ")).collect();
    for (code, _) in all {
        let own = format!("`{code}`");
        assert!(headings.iter().any(|heading| heading.contains(&own)), "{code}");
    }
}

/// Identifiers of a library mean nothing to the reader of a message, so what ends in one is put into words.
#[test]
fn messages_about_tls_hold_no_identifier_of_a_library() {
    let of_tls = |path: &Path| path.ends_with("crates/tls/src") || path.ends_with("proxy/src/upstream");
    for path in files(".rs") {
        let tests = ["tests", "tests.rs", "fixture.rs"];
        let tests = path
            .components()
            .any(|part| tests.iter().any(|name| part.as_os_str() == *name));
        if tests || !path.ancestors().any(of_tls) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let is_debug = line.contains(":?}") && !line.contains("relative:{relative:?}");
            let is_url = line.contains("docs.rs");
            assert!(!is_debug && !is_url, "{}: {line}", path.display());
        }
    }
}

/// A command line in a document must be one that the program understands.
#[test]
fn commands_in_documents_exist() {
    let help = finish(&["--help"]).stdout;
    let known: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    for path in files(".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .map(|line| line.trim_start().trim_start_matches("$ "));
        for line in lines.filter(|line| line.starts_with("nuncio ")) {
            let command = line.split_whitespace().nth(1).unwrap();
            assert!(
                command.starts_with('-') || known.contains(command),
                "{}: {line}",
                path.display()
            );
        }
    }
}

/// Names of functions that begin with the number of a case, such as `d1_` or `s13_`.
fn tests_of_cases(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| {
        let name = rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()?;
        let (case, _) = name.split_once('_')?;
        let number = case.strip_prefix(['d', 's', 'v', 'k', 'r', 'p', 'f', 'c', 'g'])?;
        let is_case = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_case.then_some(name)
    })
}

#[test]
fn every_test_of_a_case_stands_in_its_list() {
    let list = std::fs::read_to_string(repository().join("docs/cases.md")).unwrap();
    let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let sources: Vec<String> = files(".rs")
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let written: BTreeSet<&str> = sources.iter().flat_map(|text| tests_of_cases(text)).collect();
    assert_eq!(listed, written);
}

#[test]
fn the_list_of_cases_has_each_with_its_result() {
    let list = std::fs::read_to_string(repository().join("docs/cases.md")).unwrap();
    let listed: Vec<&str> = list
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("| ")?
                .strip_suffix(" |")?
                .split(" | ")
                .collect();
            let [case, result, tests] = cells[..] else {
                panic!("no three cells: {line}")
            };
            let told = tests.contains('`') || tests.starts_with("comes with");
            let is_case = case.ends_with(|c: char| c.is_ascii_digit());
            assert!(!is_case || (!result.is_empty() && told), "{line}");
            is_case.then_some(case)
        })
        .collect();
    let letters = "DSVKRPFCG".chars().zip([20, 17, 20, 16, 13, 17, 14, 10, 8]);
    let all: Vec<String> = letters
        .flat_map(|(letter, last)| (1..=last).map(move |number| format!("{letter}{number}")))
        .collect();
    assert_eq!(listed, all);
}

#[test]
fn source_files_keep_the_house_rules() {
    for path in files(".rs") {
        let name = path.file_name().unwrap().to_str().unwrap();
        for vague in [
            "mod.rs",
            "util.rs",
            "utils.rs",
            "common.rs",
            "helpers.rs",
            "misc.rs",
        ] {
            assert_ne!(name, vague, "{}", path.display());
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 700, "{} has {lines} lines", path.display());
    }
}
