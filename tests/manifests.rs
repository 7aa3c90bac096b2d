//! Manifests as people have them: piped, as templates, as folders of kustomize, and what Istio's guide asks for.

use std::fs::{self, File};
use std::path::Path;

use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{
    Finished, Gateway, KeptPort, Running, finish, listener, mapping, nuncio, tls_context,
};
use crate::support::waiting::eventually;

/// What a command prints of manifests that are piped into it.
fn piped(arguments: &[&str], manifests: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    Finished::of(nuncio(arguments).stdin(input(folder.path(), manifests)))
}

fn input(folder: &Path, text: &str) -> File {
    let path = folder.join("input");
    fs::write(&path, text).unwrap();
    File::open(path).unwrap()
}

fn check(path: &Path) -> Finished {
    finish(&["check", path.to_str().unwrap()])
}

#[test]
fn check_reads_standard_input_and_points_into_it() {
    let fine = piped(&["check", "-"], &mapping("m", "/m/", "https://a.test", &[]));
    assert_eq!(fine.status, 0, "{}", fine.stdout);
    assert!(fine.stdout.ends_with("in 1 file\n"), "{}", fine.stdout);
    let wrong = piped(&["check", "-"], &mapping("m", "/m/", "https:/a.test", &[]));
    assert_eq!(wrong.status, 1);
    assert!(wrong.stdout.contains("<standard input>:9:12"), "{}", wrong.stdout);
    assert!(
        wrong.stdout.contains("help: write `https://a.test`"),
        "{}",
        wrong.stdout
    );
    // What should have been piped may have failed.
    let empty = piped(&["check", "-", "--strict"], "");
    assert_eq!(empty.status, 1);
    assert!(empty.stdout.contains("no_manifests"), "{}", empty.stdout);
}

#[test]
fn explain_and_probe_read_standard_input() {
    let manifests = mapping("m", "/m/", "https://127.0.0.1:1", &[]);
    let explained = piped(
        &["explain", "http://localhost:8080/m/", "--config", "-"],
        &manifests,
    );
    assert_eq!(explained.status, 0, "{}", explained.stderr);
    assert!(
        explained.stdout.contains("Mapping m.default"),
        "{}",
        explained.stdout
    );
    let probed = piped(&["probe", "m", "--config", "-"], &manifests);
    assert!(probed.stdout.contains("connect_refused"), "{}", probed.stdout);
}

#[tokio::test]
async fn run_serves_what_is_piped_beside_a_folder_that_changes() {
    let upstream = Upstream::cleartext().await;
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let port = KeptPort::new();
    let service = format!("http://{}", upstream.address);
    let text = listener(port.number) + &mapping("piped", "/piped/", &service, &[]);
    let mut command = nuncio([
        "run",
        "--admin",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--config",
        "-",
    ]);
    command.arg(&manifests).stdin(input(folder.path(), &text));
    let mut program = Running::start(command);
    program.logged(" ready").await;
    let address = ([127, 0, 0, 1], port.number).into();
    let get = async |path: &str| Client::http1(address).await.get("a.test", path).await;
    get("/piped/").await.assert_ok();
    // A change on disk takes nothing away of what stands on none.
    let filed = mapping("filed", "/filed/", &service, &[]);
    fs::write(manifests.join("filed.yaml"), filed).unwrap();
    eventually("the file is served", async || {
        (get("/filed/").await.status == 200).then_some(())
    })
    .await;
    get("/piped/").await.assert_ok();
}

#[test]
fn an_unrendered_template_is_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let m = |service: &str| mapping("m", "/m/", service, &[]);
    for (text, says) in [
        (m("{{ .Values.host }}"), "is a template"),
        (m("\"{{ .Values.host }}\""), "`{{ .Values.host }}`, a placeholder"),
        (m("https://${HOST}:443"), "`${HOST}`, a placeholder"),
        (m("https://$(HOST)"), "`$(HOST)`, a placeholder"),
        (m("<%= host %>"), "`<%= host %>`, a placeholder"),
        (m("@@host@@"), "is a template"),
        (
            m("a").replace("name: m", "name: '{{ .Release.Name }}'"),
            "a placeholder",
        ),
    ] {
        let path = folder.path().join("m.yaml");
        fs::write(&path, &text).unwrap();
        let Finished { status, stdout, .. } = check(&path);
        let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(status, 1, "{text}");
        assert!(
            words.contains("error[template]") && words.contains(says),
            "{stdout}"
        );
        assert_eq!(stdout.matches("error[").count(), 1, "{stdout}");
    }
}

/// Go's templates stand in ConfigMaps, and in headers and rewrites what looks like a placeholder.
#[test]
fn what_looks_like_a_placeholder_may_be_meant() {
    let text = mapping(
        "m",
        "/m/",
        "https://a.test",
        &[
            "rewrite: /${x}/{{y}}/",
            "add_request_headers: {x-a: '{{ .Values.x }}'}",
            "headers: {x-b: '$(b)'}",
        ],
    ) + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: |\n    {{ if .x }}\n    b\n    {{ end }}\n";
    let Finished { status, stdout, .. } = piped(&["check", "-"], &text);
    assert_eq!(status, 0, "{stdout}");
    assert!(!stdout.contains("template"), "{stdout}");
    // And it hides no fault of the same file.
    let faulty = piped(&["check", "-"], &(text + "---\nkind: [\n"));
    assert!(faulty.stdout.contains("error[bad_yaml]"), "{}", faulty.stdout);
    assert!(!faulty.stdout.contains("template"), "{}", faulty.stdout);
}

#[test]
fn a_secret_that_cert_manager_makes_is_no_error_of_check() {
    let context = "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {name: ctx}\nspec: {secret: made}\n";
    let certificate =
        "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: c}\nspec: {secretName: made}\n";
    let uses = mapping("m", "/m/", "https://a.test", &["tls: ctx"]);
    let manifests = [context, certificate, &uses].join("---\n");
    let told = piped(&["check", "-"], &manifests);
    assert_eq!(told.status, 0, "{}", told.stdout);
    let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("which Certificate c.default makes"),
        "{}",
        told.stdout
    );
    assert_eq!(piped(&["check", "-", "--strict"], &manifests).status, 1);
    let without = piped(&["check", "-"], &[context, &uses].join("---\n"));
    assert_eq!(without.status, 1, "{}", without.stdout);
}

#[test]
fn check_counts_what_the_environment_asks_for_in_vain() {
    let folder = tempfile::tempdir().unwrap();
    let text = mapping("m", "/m/", "https://a.test", &[]);
    let checked = |arguments: &[&str]| {
        let mut command = nuncio(arguments);
        command
            .env("STATSD_ENABLED", "true")
            .stdin(input(folder.path(), &text));
        Finished::of(&mut command)
    };
    let told = checked(&["check", "-"]);
    assert_eq!(told.status, 0, "{}", told.stdout);
    assert!(
        told.stdout.contains("warning[environment]: STATSD_ENABLED"),
        "{}",
        told.stdout
    );
    assert_eq!(checked(&["check", "-", "--strict"]).status, 1);
}

#[test]
fn a_patch_of_kustomize_is_no_second_definition() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("m.yaml", &mapping("m", "/m/", "https://a.test", &[]));
    write(
        "patch.yaml",
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {name: m}\nspec: {tls: ctx}\n",
    );
    write(
        "kustomization.yaml",
        "resources: [m.yaml]\npatches:\n- path: patch.yaml\n- target: {kind: Mapping}\n  patch: '[]'\n",
    );
    let Finished { status, stdout, .. } = check(folder.path());
    assert_eq!(status, 0, "{stdout}");
    assert_eq!(stdout.matches("notice[kustomization]").count(), 1, "{stdout}");
    assert!(stdout.contains("leaves out patch.yaml"), "{stdout}");
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("kubectl kustomize"), "{stdout}");
    assert!(words.contains("| nuncio check -`"), "{stdout}");
}

#[test]
fn a_hidden_folder_that_is_named_says_which_of_its_own_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let deeper = folder.path().join(".github/workflows");
    fs::create_dir_all(&deeper).unwrap();
    fs::write(deeper.join("m.yaml"), mapping("m", "/m/", "https://a.test", &[])).unwrap();
    let outer = check(&folder.path().join(".github"));
    let words = outer.stdout.split_whitespace().collect::<String>();
    assert!(words.contains(".github/workflows"), "{}", outer.stdout);
    assert!(!outer.stdout.contains("put manifests there"), "{}", outer.stdout);
    let inner = check(&deeper);
    assert!(!inner.stdout.contains("no_manifests"), "{}", inner.stdout);
}

/// The names are Istio's: its sidecars tell mutual TLS by them, and what follows is HTTP as the settings say.
#[tokio::test]
async fn istio_names_are_offered_and_spoken_after() {
    let ca = Certificates::new();
    for (names, picks, version) in [
        ("istio", "istio", http::Version::HTTP_11),
        (
            "istio-peer-exchange,istio",
            "istio-peer-exchange",
            http::Version::HTTP_11,
        ),
        ("istio-http/1.1", "istio-http/1.1", http::Version::HTTP_11),
        ("istio-h2", "istio-h2", http::Version::HTTP_2),
    ] {
        let upstream = Tls::with(&ca.server(&["a.test"])).alpn(&[picks]).start().await;
        let manifests = tls_context("ctx", &[&format!("alpn_protocols: {names}")])
            + &mapping("m", "/m/", "https://a.test", &["tls: ctx"]);
        let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
        let gateway = plan.start().await;
        gateway.get("/m/").await.assert_ok();
        let offered = upstream.hello().alpn;
        let wanted: Vec<String> = names.split(',').map(str::to_owned).collect();
        assert!(offered.ends_with(&wanted), "{offered:?}");
        assert_eq!(upstream.request().version, version, "{names}");
        let told = gateway.problems().await;
        assert!(
            told.iter().all(|problem| problem["reason"] != "unspoken_name"),
            "{told:#?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_is_no_http_is_offered_and_not_spoken() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"])).alpn(&["acme"]).start().await;
    let manifests =
        tls_context("ctx", &["alpn_protocols: acme"]) + &mapping("m", "/m/", "https://a.test", &["tls: ctx"]);
    let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/m/").await.assert_refused("alpn_mismatch");
    gateway.problem("TLSContext ctx.default", "unspoken_name").await;
}
