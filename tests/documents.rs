//! The documents and the house rules that a machine can check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
            let file = target.split('#').next().unwrap();
            let found = file.is_empty() || path.parent().unwrap().join(file).exists();
            assert!(found, "{}: {target} leads nowhere", path.display());
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
