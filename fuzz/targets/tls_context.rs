//! The spec of a TLSContext, in YAML: whatever it says, the Mapping that names it speaks TLS with settings that can be
//! spoken, or it has no upstream at all and a problem says why.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nuncio_compile::Options;
use nuncio_controller::check;
use nuncio_model::Severity;
use nuncio_tls::ClientTls;

#[path = "../peer/settings.rs"]
mod settings;

/// In memory where the system has such a place, one a process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = PathBuf::from("/dev/shm");
    let folder = if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    };
    let folder = folder.join(format!("nuncio-fuzz-contexts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the input");
    std::fs::write(folder.join("rest.yaml"), rest()).expect("a place for what does not change");
    folder
});

/// A Secret that can be used for everything, and the Mapping.
fn rest() -> String {
    let issued = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    let (chain, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let lines = |pem: &str| pem.replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n\
         ---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m}}\nspec:\n  hostname: \"*\"\n  \
         prefix: /\n  service: https://a.test\n  tls: c\n",
        lines(&chain),
        lines(&key)
    )
}

fuzz_target!(|spec: &str| {
    settings::keep_roots();
    // What is further in than the head cannot be anything but its spec.
    let mut text =
        "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {name: c}\nspec:\n".to_owned();
    for line in spec.split(['\n', '\r']) {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    std::fs::write(FOLDER.join("context.yaml"), text).expect("the file for the input can be written");
    let options = Options {
        open_default_listeners: true,
        ..Options::default()
    };
    let (output, _) = check(std::slice::from_ref(&*FOLDER), &options);
    let snapshot = output.snapshot;
    for upstream in &snapshot.upstreams {
        let tls = upstream
            .identity
            .tls
            .as_ref()
            .expect("https:// is never cleartext");
        if let Err(error) = ClientTls::new(tls) {
            assert_eq!(error.reason, "bad_sni", "{}", error.message);
        }
    }
    let errors = || {
        snapshot
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    };
    assert!(
        !snapshot.upstreams.is_empty() || errors().next().is_some(),
        "no upstream, and no reason"
    );
});
