//! Secrets that something else in the manifests makes: cert-manager, External Secrets, Sealed Secrets, sops and others.

use nuncio_model::{Reason, Severity};

use crate::world::{World, context, mapping, object, world};

const MAPPING: &str = "service: https://svc; tls: ctx";

/// An object of any kind.
fn maker(api_version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

fn with(made: &str, context_spec: &str) -> World {
    world(&(made.to_owned() + &context("ctx", context_spec) + &mapping("m", MAPPING)))
}

/// The Secret is missed as a warning that names its maker, and the Mapping is answered 503.
fn is_expected(world: &World, maker: &str) {
    assert_eq!(world.errors(), Vec::<String>::new());
    world.tells(Severity::Warning, "TLSContext ctx", maker);
    world.tells(Severity::Warning, "Mapping m", maker);
    assert_eq!(world.unresolved("m").reason, Reason::TlsConfigUnresolved);
}

#[test]
fn a_secret_that_something_else_makes_is_a_warning_with_its_maker() {
    for (api_version, kind, name, spec) in [
        ("cert-manager.io/v1", "Certificate", "c", "{secretName: made}"),
        ("external-secrets.io/v1", "ExternalSecret", "made", "{}"),
        (
            "external-secrets.io/v1beta1",
            "ExternalSecret",
            "e",
            "{target: {name: made}}",
        ),
        (
            "bitnami.com/v1alpha1",
            "SealedSecret",
            "made",
            "{encryptedData: {}}",
        ),
        (
            "bitnami.com/v1alpha1",
            "SealedSecret",
            "s",
            "{template: {metadata: {name: made}}}",
        ),
        (
            "secrets.hashicorp.com/v1beta1",
            "VaultPKISecret",
            "v",
            "{destination: {create: true, name: made}}",
        ),
        (
            "secrets-store.csi.x-k8s.io/v1",
            "SecretProviderClass",
            "p",
            "{secretObjects: [{secretName: other}, {secretName: made}]}",
        ),
        ("onepassword.com/v1", "OnePasswordItem", "made", "{itemPath: x}"),
    ] {
        let made = maker(api_version, kind, name, spec);
        is_expected(
            &with(&made, "secret: made"),
            &format!("which {kind} {name}.default makes"),
        );
        is_expected(
            &with(&made, "ca_secret: made"),
            &format!("which {kind} {name}.default makes"),
        );
    }
}

#[test]
fn a_maker_of_another_name_namespace_or_group_makes_nothing() {
    for (made, asked) in [
        (
            maker("cert-manager.io/v1", "Certificate", "made", "{secretName: other}"),
            "secret: made",
        ),
        (
            maker("cert-manager.io/v1", "Certificate", "c", "{secretName: made}"),
            "secret: made.elsewhere",
        ),
        (
            maker("example.com/v1", "Certificate", "c", "{secretName: made}"),
            "secret: made",
        ),
        (
            maker("cert-manager.io/v1", "Certificate", "c", "{secretName: 7}"),
            "secret: made",
        ),
    ] {
        let world = with(&made, asked);
        world.tells(
            Severity::Error,
            "TLSContext ctx",
            "does not exist; create it or correct the name",
        );
        world.tells(Severity::Error, "Mapping m", "does not exist");
    }
}

#[test]
fn what_has_to_be_corrected_is_an_error_beside_what_is_expected() {
    let made = maker("cert-manager.io/v1", "Certificate", "c", "{secretName: made}");
    let world = with(&made, "secret: made; min_tls_version: v9");
    world.tells(Severity::Error, "Mapping m", "min_tls_version");
    world.tells(
        Severity::Warning,
        "TLSContext ctx",
        "which Certificate c.default makes",
    );
}

#[test]
fn a_maker_that_comes_and_goes_is_noticed_by_the_next_compile() {
    let made = maker("cert-manager.io/v1", "Certificate", "c", "{secretName: made}");
    let first = with("", "secret: made");
    first.tells(Severity::Error, "Mapping m", "does not exist");
    let manifests = context("ctx", "secret: made") + &mapping("m", MAPPING);
    let second = first.then(&(made + &manifests));
    is_expected(&second, "which Certificate c.default makes");
    let third = second.then(&manifests);
    third.tells(Severity::Error, "Mapping m", "does not exist");
}

#[test]
fn a_secret_that_sops_has_encrypted_is_a_warning_that_says_so() {
    let sops = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: made, namespace: default}\n\
         data: {tls.crt: 'ENC[AES256_GCM,data:YWJj,iv:eA==,tag:eA==,type:str]'}\nsops: {version: 3.9.0}\n";
    is_expected(&with(sops, "secret: made"), "whose values sops has encrypted");
}

#[test]
fn a_host_whose_certificate_something_makes_has_a_warning() {
    let made = maker("cert-manager.io/v1", "Certificate", "c", "{secretName: made}");
    let host = object("Host", "h", "default", "hostname: '*'; tlsSecret: {name: made}");
    let world = world(&(made + &host));
    assert_eq!(world.errors(), Vec::<String>::new());
    world.tells(
        Severity::Warning,
        "Host h",
        "which Certificate c.default makes, so the Host has no TLS side; once it is there",
    );
}
