//! Puts into the program what `--version` tells: the commit, and the version of the TLS library.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=NUNCIO_COMMIT");
    // The reflog changes with every commit; absent (an archive, a shallow export) means nothing to follow.
    for path in ["../../.git/HEAD", "../../.git/logs/HEAD", "../../Cargo.lock"] {
        if Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = std::env::var("NUNCIO_COMMIT").ok().or_else(commit);
    println!(
        "cargo:rustc-env=NUNCIO_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    let lock = std::fs::read_to_string("../../Cargo.lock").unwrap_or_default();
    for (variable, package) in [("RUSTLS", "rustls"), ("AWS_LC_RS", "aws-lc-rs")] {
        let version = locked_version(&lock, package).unwrap_or("of unknown version");
        println!("cargo:rustc-env=NUNCIO_{variable}_VERSION={version}");
    }
}

/// The commit that is checked out, or nothing where git or its folder is missing.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=10", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}

/// The version of `package` in the text of `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}
