//! Folders of `cases`: manifests in, `expected.json` out. With `NUNCIO_BLESS=1` what comes out becomes
//! what is expected.

use std::fs;
use std::path::{Path, PathBuf};

use nuncio_compile::LastGood;

use crate::summary::summary;
use crate::world::{World, options};

#[test]
fn every_case_comes_out_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let cases = sorted(&folder);
    assert!(cases.len() > 5, "the cases are in {}", folder.display());
    let wrong: Vec<String> = cases.iter().filter_map(|case| difference(case)).collect();
    assert!(
        wrong.is_empty(),
        "{}\n`make bless` accepts all of this; read the diff",
        wrong.join("\n")
    );
}

/// Whatever compile calls TLS settings can be spoken.
#[test]
fn the_settings_of_every_case_can_be_spoken() {
    let mut spoken = 0;
    for case in sorted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")) {
        let world = outcome(&case);
        for upstream in &world.output.snapshot.upstreams {
            if let Some(tls) = &upstream.identity.tls {
                let client = nuncio_tls::ClientTls::new(tls);
                assert!(client.is_ok(), "{}: {:?}", upstream.name, client.err());
                spoken += 1;
            }
        }
    }
    assert!(spoken > 10, "{spoken}");
}

fn difference(case: &Path) -> Option<String> {
    let world = outcome(case);
    let mut got = serde_json::to_string_pretty(&summary(&world.output)).expect("JSON can be written");
    got.push('\n');
    let expected = case.join("expected.json");
    if std::env::var_os("NUNCIO_BLESS").is_some_and(|bless| bless == "1") {
        fs::write(&expected, got).expect("a case can be written");
        return None;
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    if wanted == got {
        return None;
    }
    let line = wanted
        .lines()
        .zip(got.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(wanted.lines().count());
    let at = |text: &str| text.lines().nth(line).unwrap_or("nothing").to_owned();
    Some(format!(
        "{}, line {}:\n  expected {}\n  got      {}",
        case.display(),
        line + 1,
        at(&wanted),
        at(&got)
    ))
}

fn outcome(case: &Path) -> World {
    let manifests: Vec<String> = sorted(case)
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| fs::read_to_string(path).expect("a case can be read"))
        .collect();
    World::new(&manifests.join("\n---\n"), &options(), &LastGood::default())
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the entry can be read").path())
        .collect();
    paths.sort();
    paths
}
