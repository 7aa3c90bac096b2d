//! What deploy/, the Dockerfile and docs/kubernetes.md say of the program. How the chart renders, and what Kubernetes
//! makes of all manifests, is tested by `make test-deploy`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::certificates::{Certificates, secret};
use crate::support::program::{finish, in_namespace, repository};

const PAGE: &str = "docs/kubernetes.md";

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The blocks of this kind on the page, also those within a list.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        let Some(found) = text.strip_prefix("```").filter(|found| !found.is_empty()) else {
            continue;
        };
        let indent = line.len() - text.len();
        let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
        let block: Vec<&str> = block.map(|line| line.get(indent..).unwrap_or_default()).collect();
        if found == kind {
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// What `nuncio check` finds in these files, but for notices.
fn problems(paths: &[PathBuf]) -> Vec<Value> {
    let mut arguments = vec!["check", "--format", "json"];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let output = finish(&arguments).stdout;
    let all: Value = serde_json::from_str(&output).unwrap();
    let all = all["problems"].as_array().unwrap().clone();
    all.into_iter()
        .filter(|problem| problem["severity"] != "notice")
        .collect()
}

/// The words of a text that begin like this, with what `belongs` to them.
fn words<'a>(text: &'a str, prefix: &str, belongs: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(prefix)
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| belongs(c) || c == '/'))
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
            rest[..end].trim_end_matches('-')
        })
        .filter(|word| word.len() > prefix.len())
        .collect()
}

#[test]
fn the_chart_has_the_definitions_of_this_program() {
    assert!(
        finish(&["crds"]).stdout == read("deploy/chart/crds/getambassador.io.yaml"),
        "`make crds` writes what `nuncio crds` says now into the chart"
    );
}

#[test]
fn the_listeners_for_a_start_are_good_ones() {
    let path = repository().join("deploy/listeners.yaml");
    assert_eq!(problems(&[path]), Vec::<Value>::new());
}

/// As long as this is so, the chart's default Listeners are the one for HTTP; then they are two, as the other chart's.
#[test]
fn a_listener_for_https_is_no_good_one_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("listener.yaml");
    let https = read("deploy/listeners.yaml").replace("protocol: HTTP", "protocol: HTTPS");
    std::fs::write(&path, https).unwrap();
    let reasons = problems(&[path]);
    assert!(
        reasons
            .iter()
            .any(|problem| problem["reason"] == "not_supported_yet"),
        "let createDefaultListeners make the Listener for HTTPS too, and put it into deploy/listeners.yaml"
    );
}

/// The manifests of the page that are for the gateway, as one configuration.
#[test]
fn manifests_of_the_page_are_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks(&read(PAGE), "yaml");
    assert!(!blocks.is_empty());
    let mut paths = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        if block.contains("apiVersion: getambassador.io/") {
            let path = folder.path().join(format!("{number}.yaml"));
            std::fs::write(&path, block).unwrap();
            paths.push(path);
        }
    }
    assert!(paths.len() > 1);
    // What cert-manager makes of the page's Certificates.
    let secrets = folder.path().join("secrets.yaml");
    std::fs::write(&secrets, issued()).unwrap();
    paths.push(secrets);
    assert_eq!(problems(&paths), Vec::<Value>::new());
}

/// The Secret `shop-client` of the page.
fn issued() -> String {
    let authority = Certificates::new();
    let client = authority.client("gateway");
    let pair = client.secret("shop-client");
    let entry = secret("", &[("ca.crt", &authority.pem())]);
    let (_, entry) = entry.rsplit_once("data:\n").unwrap();
    in_namespace("shop", &format!("{pair}{entry}"))
}

#[test]
fn flags_and_variables_that_are_named_exist() {
    let texts = [
        PAGE,
        "deploy/chart/values.yaml",
        "deploy/chart/templates/NOTES.txt",
        "deploy/chart/templates/deployment.yaml",
        "deploy/nuncio.yaml",
    ];
    let help: String = ["run", "check", "explain", "probe", "crds"]
        .map(|command| finish(&[command, "--help"]).stdout)
        .concat();
    for path in texts {
        let text = read(path);
        for prefix in ["AMBASSADOR_", "AES_", "ENVOY_", "NUNCIO_UPSTREAM"] {
            for name in words(&text, prefix, |c| c.is_ascii_uppercase() || c == '_') {
                assert!(help.contains(name), "{path}: {name} is no variable of nuncio");
            }
        }
        // kubectl, Helm and Docker have flags of their own.
        let others = ["kubectl", "helm", "docker"];
        let lines = text
            .lines()
            .filter(|line| !others.iter().any(|other| line.contains(other)));
        for line in lines {
            for flag in words(line, "--", |c| c.is_ascii_lowercase() || c == '-') {
                assert!(help.contains(flag), "{path}: {flag} is no flag of nuncio");
            }
        }
    }
}

/// The metrics that the page names are those of a gateway in a cluster; that it has them is tested there.
#[test]
fn metrics_that_are_named_exist() {
    let sources = ["crates/admin/src", "crates/proxy/src"];
    let text: String = sources
        .iter()
        .map(|folder| all_in(&repository().join(folder)))
        .collect();
    for name in words(&read(PAGE), "nuncio_", |c| c.is_ascii_lowercase() || c == '_') {
        assert!(text.contains(name), "{name} is no metric of nuncio");
    }
}

fn all_in(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => text.push_str(&all_in(&path)),
            false => text.push_str(&std::fs::read_to_string(path).unwrap()),
        }
    }
    text
}

#[test]
fn pods_have_time_to_end() {
    let help = finish(&["run", "--help"]).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let default = |flag: &str, before: &str| -> u64 {
        let rest = &help[help.find(flag).unwrap()..];
        let rest = &rest[rest.find(before).unwrap() + before.len()..];
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let (delay, drain) = (
        default("--shutdown-delay", "with --kubernetes "),
        default("--drain-time", "[default: "),
    );
    for file in ["deploy/nuncio.yaml", "deploy/nuncio-single-namespace.yaml"] {
        let text = read(file);
        assert!(text.contains(&format!("- --shutdown-delay={delay}\n")), "{file}");
        let (_, grace) = text.split_once("terminationGracePeriodSeconds: ").unwrap();
        let grace: u64 = grace.lines().next().unwrap().parse().unwrap();
        assert!(grace > delay + drain, "{file}");
    }
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_project() {
    let toolchain = read("rust-toolchain.toml");
    let (_, version) = toolchain.split_once("channel = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(read("Dockerfile").contains(&format!("FROM rust:{version}-")));
}

#[test]
fn versions_are_that_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = read("deploy/chart/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\n")));
    assert!(chart.contains(&format!("\nappVersion: {version}\n")));
    for file in ["deploy/nuncio.yaml", "deploy/nuncio-single-namespace.yaml"] {
        assert!(
            read(file).contains(&format!("image: nuncio:{version}\n")),
            "{file}"
        );
    }
}
