//! Row K16: the bytes of a private key are nowhere to be read, however it is broken.

use super::{World, originating};
use crate::support::certificates::{key, secret};
use crate::support::program::{Gateway, finish_beside, mapping, nuncio};

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

/// Ways to break the PEM of a key, whose base64 is `body`.
fn broken(pem: &str, body: &str) -> Vec<(&'static str, String)> {
    use base64::Engine;
    let labelled = |label: &str| pem.replace("PRIVATE KEY", label);
    let begin = &body[8..12];
    vec![
        ("mismatch", pem.to_owned()),
        ("encrypted", labelled("ENCRYPTED PRIVATE KEY")),
        ("foreign", labelled("OPENSSH PRIVATE KEY")),
        ("label", labelled(body)),
        ("cut", pem[..pem.len() / 2].to_owned()),
        ("oneline", pem.replace('\n', "")),
        ("spaces", pem.replace('\n', " ")),
        ("damaged", pem.replacen(begin, "AAAA", 1)),
        ("nobase64", pem.replacen(begin, "!!!!", 1)),
        ("bare", body.to_owned()),
        ("twice", base64::engine::general_purpose::STANDARD.encode(pem)),
        (
            "header",
            pem.replace("-----BEGIN", &format!("{body}: -----BEGIN")),
        ),
    ]
}

/// PEM as a text of YAML.
fn quoted(pem: &str) -> String {
    format!("\"{}\"", pem.replace('\n', "\\n"))
}

/// Secrets that hold a key in every way but the right one.
fn misplaced(chain: &str, marked: &Marked) -> Vec<(&'static str, String)> {
    let (pem, body) = (&marked.pem, marked.body());
    let own = |name: &'static str, rest: &str| (name, document(name, rest));
    let mut secrets = vec![
        (
            "swapped",
            secret("swapped", &[("tls.crt", pem), ("tls.key", chain)]),
        ),
        ("ca", secret("ca", &[("ca.crt", pem), ("crl.pem", pem)])),
        own("unencoded", &format!("data:\n  tls.key: {}", quoted(pem))),
        own("astext", &format!("data: {body}")),
        own("aslist", &format!("data:\n  tls.key: [{body}]")),
        own("askey", &format!("data:\n  \"{body}\": [1]")),
        own("asname", &format!("type: \"{body}\"\ndata: {{}}")),
        ("elsewhere", block("elsewhere", "password", pem)),
    ];
    for (name, key) in broken(pem, &body) {
        secrets.push((name, secret(name, &[("tls.crt", chain), ("tls.key", &key)])));
    }
    secrets
}

/// TLSContexts in which the key itself stands where its place should be named.
fn pasted(marked: &Marked) -> String {
    let mut manifests = String::new();
    let fields = [
        "secret",
        "ca_secret",
        "crl_secret",
        "private_key_file",
        "cert_chain_file",
        "cacert_chain_file",
    ];
    for field in fields {
        let name = field.replace('_', "-");
        let whole = format!("{field}: {}", quoted(&marked.pem));
        manifests += &originating(&format!("pasted-{name}"), &[&whole]);
        if field.ends_with("secret") {
            let bare = format!("{field}: {}", marked.body());
            manifests += &originating(&format!("bare-{name}"), &[&bare]);
        }
    }
    manifests
}

/// Everything that this gateway says, and that commands say of its manifests.
async fn assert_hidden(gateway: &Gateway, force: &str, marked: &Marked) {
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

#[tokio::test]
async fn k16_key_that_is_broken_in_any_way_is_told_without_a_byte_of_it() {
    let world = World::new().await;
    let marked = Marked::new();
    let secrets = misplaced(&world.ca.client("web").chain, &marked);
    let mut manifests = mapping("good", "/good/", "https://svc", &[]) + &pasted(&marked);
    for (name, secret) in &secrets {
        manifests += &originating(name, &[&format!("secret: {name}")]);
        manifests += &originating(&format!("{name}-ca"), &[&format!("ca_secret: {name}")]);
        manifests += secret;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::write(&file, marked.pem.replacen(&marked.body()[8..12], "AAAA", 1)).unwrap();
    let line = |field: &str| format!("{field}: {}", file.display());
    manifests += &originating("file", &[&line("private_key_file"), &line("cert_chain_file")]);
    // Lines that lost their indentation, so that the document is no YAML any more.
    let flat = block("flat", "tls.key", &marked.pem).replace("    ", "");
    let unfinished = document("unfinished", &format!("data:\n  tls.key: \"{}", marked.body()));

    for force in ["false", "true"] {
        let plan = world.plan(manifests.clone()).env("AES_LOG_LEVEL", "trace");
        let plan = plan.env("AMBASSADOR_FORCE_SECRET_VALIDATION", force);
        let plan = plan.file("flat.yaml", &flat).file("unfinished.yaml", &unfinished);
        let gateway = plan.start().await;
        for (name, _) in &secrets {
            let answer = gateway.get(&format!("/{name}/")).await;
            answer.assert_refused("tls_config_unresolved");
        }
        assert_hidden(&gateway, force, &marked).await;
    }
}

#[test]
fn a_marked_key_is_found_where_it_stands() {
    let marked = Marked::new();
    let shown = std::panic::catch_unwind(|| marked.assert_absent("here", &marked.pem));
    assert!(shown.is_err());
}
