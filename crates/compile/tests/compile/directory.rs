//! The folder of `AMBASSADOR_ISTIO_SECRET_DIR` (row V17).

use std::path::{Path, PathBuf};

use nuncio_compile::{LastGood, Objects, Options, istio_files};
use nuncio_model::{Reason, Severity, VerifyMode};

use crate::material::{Pair, authority, tls_secret};
use crate::world::{World, context, mapping, objects, options};

const FOLDER: &str = "/istio";

fn in_folder() -> Options {
    Options {
        namespace: "own".into(),
        istio_directory: Some(FOLDER.into()),
        ..options()
    }
}

/// The manifests, and these files in the folder; the others do not exist.
fn given(manifests: &str, present: &[(&str, &str)]) -> Objects {
    let mut objects = objects(manifests);
    for path in istio_files(Path::new(FOLDER)) {
        let name = path.file_name().and_then(|name| name.to_str());
        let found = present.iter().find(|(file, _)| Some(*file) == name);
        let content = match found {
            Some((_, text)) => Ok(text.as_bytes().to_vec()),
            None => Err("does not exist; put the file there".to_owned()),
        };
        objects.files.insert(path, content);
    }
    objects
}

/// A Mapping `m` whose TLSContext says this.
fn manifests(spec: &str) -> String {
    context("ctx", spec) + &mapping("m", "service: https://svc; tls: ctx")
}

fn files<'t>(chain: &'t str, key: &'t str) -> [(&'static str, &'t str); 2] {
    [("cert-chain.pem", chain), ("key.pem", key)]
}

fn der(pem: &str) -> Vec<u8> {
    nuncio_tls::certificates(pem.as_bytes()).0[0].clone()
}

fn shown(world: &World) -> Vec<u8> {
    let client = world.tls("m").client.clone();
    client.expect("a certificate is shown").chain[0].clone()
}

#[test]
fn v17_the_folder_is_a_secret_of_the_gateways_own_namespace() {
    let ca = authority("ca");
    let Pair { chain, key } = ca.leaf("client");
    let pair = [("cert-chain.pem", &*chain), ("key.pem", &*key)];
    let all = [pair[0], pair[1], ("root-cert.pem", &*ca.pem)];
    let files: Vec<PathBuf> = istio_files(Path::new(FOLDER)).collect();
    assert_eq!(files.len(), 3);

    let world = World::of(
        &given(&manifests("secret: istio-certs.own"), &all),
        &in_folder(),
        &LastGood::default(),
    )
    .fine();
    assert_eq!(shown(&world), der(&chain));
    // The reference never uses the root, so it counts only for those who name it.
    assert_eq!(world.tls("m").verify.mode, VerifyMode::Report);
    assert!(world.tls("m").verify.roots.bundle.is_none());

    let named = manifests("secret: istio-certs.own; ca_secret: istio-certs.own");
    let world = World::of(&given(&named, &all), &in_folder(), &LastGood::default()).fine();
    assert_eq!(world.tls("m").verify.mode, VerifyMode::Chain);
    let roots = world.tls("m").verify.roots.bundle.clone();
    assert_eq!(roots.expect("there are roots").anchors, [der(&ca.pem)]);

    // Without it nothing else is taken for a CA.
    let world = World::of(&given(&named, &pair), &in_folder(), &LastGood::default());
    world.refuses("m", Reason::TlsConfigUnresolved);
    world.tells(
        Severity::Error,
        "TLSContext ctx spec.ca_secret",
        "`/istio/root-cert.pem` does not exist",
    );

    let elsewhere = manifests("secret: istio-certs");
    let world = World::of(&given(&elsewhere, &all), &in_folder(), &LastGood::default());
    world.refuses("m", Reason::TlsConfigUnresolved);
}

#[test]
fn v17_files_of_the_folder_that_are_no_pair_are_no_secret() {
    let (one, two) = (authority("ca").leaf("one"), authority("ca").leaf("two"));
    let manifests = manifests("secret: istio-certs.own");
    let good = World::of(
        &given(&manifests, &files(&one.chain, &one.key)),
        &in_folder(),
        &LastGood::default(),
    )
    .fine();

    let chain_only = [("cert-chain.pem", &*one.chain)];
    for (present, text) in [
        (&files(&two.chain, &one.key)[..], "does not belong to"),
        (&files(&one.chain, "")[..], "`/istio/key.pem` is empty"),
        (&chain_only[..], "`/istio/key.pem` does not exist"),
        (&[][..], "`/istio/cert-chain.pem` does not exist"),
    ] {
        let objects = given(&manifests, present);
        let world = World::of(&objects, &in_folder(), &LastGood::default());
        world.refuses("m", Reason::TlsConfigUnresolved);
        world.tells(Severity::Error, "TLSContext ctx spec.secret", text);
        let absent = usize::from(!text.contains("belong"));
        let told = world.told(Severity::Warning);
        let about = told
            .iter()
            .filter(|line| line.contains("AMBASSADOR_ISTIO_SECRET_DIR"))
            .count();
        assert_eq!(about, absent, "{told:?}");
        let later = World::of(&objects, &in_folder(), &good.output.last_good);
        assert_eq!(shown(&later), der(&one.chain), "what worked serves on");
    }
}

#[test]
fn v17_the_folder_comes_before_a_secret_of_that_name() {
    let (file, object) = (authority("ca").leaf("file"), authority("ca").leaf("object"));
    let manifests = manifests("secret: istio-certs.own") + &tls_secret("istio-certs", "own", &object);
    let files = [("cert-chain.pem", &*file.chain), ("key.pem", &*file.key)];
    let world = World::of(&given(&manifests, &files), &in_folder(), &LastGood::default()).fine();
    assert_eq!(shown(&world), der(&file.chain));
    world.tells(Severity::Notice, "Secret istio-certs", "has no effect");
    let world = World::of(&given(&manifests, &[]), &in_folder(), &LastGood::default());
    assert_eq!(shown(&world), der(&object.chain));
}

#[test]
fn v17_the_folder_is_validated_on_demand() {
    let (one, two) = (authority("ca").leaf("one"), authority("ca").leaf("two"));
    let files = [("cert-chain.pem", &*one.chain), ("key.pem", &*two.key)];
    let forced = Options {
        force_secret_validation: true,
        ..in_folder()
    };
    let objects = given(&mapping("m", "service: https://svc"), &files);
    let world = World::of(&objects, &forced, &LastGood::default());
    world.tells(
        Severity::Error,
        "Secret istio-certs data.cert-chain.pem",
        "FSSecret secret istio-certs.own cert-chain.pem cannot be used: the private key does not belong",
    );
}
