//! Row K16: the bytes of a private key are nowhere to be read, however it is broken.

use super::{World, originating};
use crate::support::certificates::{key, secret};
use crate::support::program::{finish_beside, mapping, nuncio, tls_context};

/// A key that may be found again: its PEM, and pieces of the base64 in it.
struct Marked {
    pem: String,
    pieces: Vec<String>,
}

impl Marked {
    fn new() -> Self {
        Self::of(key().serialize_pem().replace("\r\n", "\n"))
    }

    fn of(pem: String) -> Self {
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let body = lines.concat();
        // The beginning is that of every key of its kind.
        let secret = &body.as_bytes()[40..];
        let mut pieces = Vec::new();
        for piece in secret.chunks(16).filter(|piece| piece.len() == 16) {
            pieces.push(String::from_utf8(piece.to_vec()).unwrap());
        }
        assert!(pieces.len() > 3);
        Self { pem, pieces }
    }

    fn body(&self) -> String {
        self.pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, text: &str) {
        // Line breaks may have been moved.
        let text: String = text.split_whitespace().collect();
        for piece in &self.pieces {
            let shown = text.find(piece.as_str());
            let before = shown.map(|at| &text[text[..at].rfind("message").unwrap_or(0)..at]);
            assert_eq!(before, None, "{place} shows a piece of a key after this");
        }
    }
}

/// `stringData` with a value of several lines.
fn block(name: &str, key: &str, value: &str) -> String {
    let mut text =
        format!("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n  {key}: |\n");
    for line in value.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

fn document(name: &str, rest: &str) -> String {
    format!("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n{rest}\n")
}

#[tokio::test]
async fn k16_key_that_is_broken_in_any_way_is_told_without_a_byte_of_it() {
    let world = World::new().await;
    let chain = world.ca.client("web").chain;
    let marked = Marked::new();
    let (pem, body) = (marked.pem.clone(), marked.body());
    let with_key = |name: &str, key: &str| secret(name, &[("tls.crt", &chain), ("tls.key", key)]);
    let secrets = [
        ("mismatch", with_key("mismatch", &pem)),
        (
            "encrypted",
            with_key("encrypted", &pem.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        ),
        (
            "foreign",
            with_key("foreign", &pem.replace("PRIVATE", "OPENSSH PRIVATE")),
        ),
        ("cut", with_key("cut", &pem[..pem.len() / 2])),
        ("oneline", with_key("oneline", &pem.replace('\n', ""))),
        ("spaces", with_key("spaces", &pem.replace('\n', " "))),
        (
            "damaged",
            with_key("damaged", &pem.replacen(&body[8..12], "AAAA", 1)),
        ),
        (
            "nobase64",
            with_key("nobase64", &pem.replacen(&body[8..12], "!!!!", 1)),
        ),
        ("bare", with_key("bare", &body)),
        (
            "twice",
            with_key("twice", &{
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.encode(&pem)
            }),
        ),
        (
            "swapped",
            secret("swapped", &[("tls.crt", &pem), ("tls.key", &chain)]),
        ),
        ("ca", secret("ca", &[("ca.crt", &pem), ("crl.pem", &pem)])),
        (
            "header",
            with_key(
                "header",
                &pem.replace("-----BEGIN", &format!("{body}: -----BEGIN")),
            ),
        ),
        ("label", with_key("label", &pem.replace("PRIVATE KEY", &body))),
        (
            "unencoded",
            document(
                "unencoded",
                &format!("data:\n  tls.key: \"{}\"", pem.replace('\n', "\\n")),
            ),
        ),
        ("astext", document("astext", &format!("data: {body}"))),
        (
            "aslist",
            document("aslist", &format!("data:\n  tls.key: [{body}]")),
        ),
        ("askey", document("askey", &format!("data:\n  \"{body}\": [1]"))),
        (
            "asname",
            document("asname", &format!("type: \"{body}\"\ndata: {{}}")),
        ),
        ("elsewhere", block("elsewhere", "password", &pem)),
    ];
    let mut manifests = mapping("good", "/good/", "https://svc", &[]);
    for (name, secret) in &secrets {
        manifests += &originating(name, &[&format!("secret: {name}")]);
        manifests += &originating(&format!("{name}-ca"), &[&format!("ca_secret: {name}")]);
        manifests += secret;
    }
    let quoted = format!("\"{}\"", pem.replace('\n', "\\n"));
    for field in [
        "secret",
        "ca_secret",
        "crl_secret",
        "private_key_file",
        "cert_chain_file",
        "cacert_chain_file",
    ] {
        let name = format!("pasted-{}", field.replace('_', "-"));
        manifests += &originating(&name, &[&format!("{field}: {quoted}")]);
        let name = format!("bare-{}", field.replace('_', "-"));
        if field.ends_with("secret") {
            manifests += &originating(&name, &[&format!("{field}: {body}")]);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::write(&file, pem.replacen(&body[8..12], "AAAA", 1)).unwrap();
    let file = file.display();
    manifests += &mapping("file", "/file/", "https://svc", &["tls: file"]);
    manifests += &tls_context(
        "file",
        &[
            &format!("private_key_file: {file}"),
            &format!("cert_chain_file: {file}"),
        ],
    );
    // Lines that lost their indentation, so that the document is no YAML any more.
    let flat = block("flat", "tls.key", &pem).replace("    ", "");
    let unfinished = document("unfinished", &format!("data:\n  tls.key: \"{body}"));

    for force in ["false", "true"] {
        let plan = world
            .plan(manifests.clone())
            .env("AMBASSADOR_FORCE_SECRET_VALIDATION", force);
        let plan = plan.env("AES_LOG_LEVEL", "trace");
        let plan = plan.file("flat.yaml", &flat).file("unfinished.yaml", &unfinished);
        let gateway = plan.start().await;
        for (name, _) in &secrets {
            gateway
                .get(&format!("/{name}/"))
                .await
                .assert_refused("tls_config_unresolved");
        }
        for path in [
            "/api/v1/problems",
            "/api/v1/routes",
            "/api/v1/upstreams",
            "/api/v1/certificates",
            "/metrics",
            "/ambassador/v0/diag/",
            "/ambassador/v0/diag/?json=true",
        ] {
            let answer = gateway.admin(path).await;
            assert_eq!(answer.status, 200, "{path}");
            marked.assert_absent(path, answer.text());
        }
        let folder = gateway.folder();
        let folder = folder.to_str().unwrap();
        for arguments in [
            &["check", folder][..],
            &["check", folder, "--format", "json"],
            &["explain", "http://a.test/mismatch/", "--config", folder],
            &["probe", "mismatch", "--config", folder],
            &["probe", "pasted-secret", "--config", folder],
        ] {
            let mut command = nuncio(arguments);
            command.env("AMBASSADOR_FORCE_SECRET_VALIDATION", force);
            let finished = finish_beside(command).await;
            assert!(finished.status == 1, "{arguments:?}: {finished:?}");
            marked.assert_absent(&arguments.join(" "), &(finished.stdout + &finished.stderr));
        }
        gateway.get("/good/").await;
        gateway.access_log("/good/").await;
        marked.assert_absent("the log", &gateway.program.stderr().join("\n"));
        marked.assert_absent("the access log", &gateway.program.stdout().join("\n"));
    }
}

#[test]
fn a_marked_key_is_found_where_it_stands() {
    let marked = Marked::new();
    let shown = std::panic::catch_unwind(|| marked.assert_absent("here", &marked.pem));
    assert!(shown.is_err());
}
