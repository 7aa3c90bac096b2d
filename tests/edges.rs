//! The order of the crates: arrows go downwards only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may use of the others; the table of the design.
const ALLOWED: [(&str, &[&str]); 8] = [
    (
        "nuncio",
        &[
            "nuncio-admin",
            "nuncio-compile",
            "nuncio-controller",
            "nuncio-crds",
            "nuncio-model",
            "nuncio-proxy",
            "nuncio-tls",
        ],
    ),
    ("nuncio-admin", &["nuncio-model"]),
    ("nuncio-compile", &["nuncio-crds", "nuncio-model", "nuncio-tls"]),
    (
        "nuncio-controller",
        &["nuncio-compile", "nuncio-crds", "nuncio-model"],
    ),
    ("nuncio-crds", &[]),
    ("nuncio-model", &[]),
    ("nuncio-proxy", &["nuncio-model", "nuncio-tls"]),
    ("nuncio-tls", &["nuncio-model"]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Dependencies between the crates of the workspace, for building and for tests alike.
fn edges(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| text(&package["name"]))
        .collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let names = dependencies.map(|dependency| text(&dependency["name"]));
            (
                text(&package["name"]),
                names.filter(|name| ours.contains(name)).collect(),
            )
        })
        .collect()
}

#[test]
fn the_workspace_holds_the_eight_crates() {
    let edges = edges(&metadata());
    let names: Vec<&str> = edges.keys().map(String::as_str).collect();
    assert_eq!(names, ALLOWED.map(|(name, _)| name));
}

#[test]
fn crates_use_only_what_is_below_them() {
    for (name, used) in edges(&metadata()) {
        let allowed = ALLOWED
            .iter()
            .find(|(of, _)| *of == name)
            .map_or(&[][..], |(_, allowed)| *allowed);
        let forbidden: Vec<&String> = used
            .iter()
            .filter(|crate_| !allowed.contains(&crate_.as_str()))
            .collect();
        assert!(forbidden.is_empty(), "{name} must not use {forbidden:?}");
    }
}

/// The one crate that has to stay pure also stays away from sockets and runtimes.
#[test]
fn what_is_pure_has_no_runtime() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if !["nuncio-model", "nuncio-crds", "nuncio-compile", "nuncio-tls"].contains(&name) {
            continue;
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(
                !["tokio", "hyper", "hyper-util", "tokio-rustls", "socket2"].contains(&used),
                "{name} uses {used}"
            );
        }
    }
}
