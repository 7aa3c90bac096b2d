//! What users get wrong, and exactly what they are told.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use tempfile::TempDir;

use super::*;

/// A folder with one manifest, `m.yaml`.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new(manifest: &str) -> Self {
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(case.path("m.yaml"), manifest).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The status, and what is printed, with paths as seen from the folder.
    fn check_as(&self, paths: &[PathBuf], format: Format, strict: bool) -> (u8, String) {
        let options = Options {
            open_default_listeners: true,
            now: SystemTime::now(),
            ..Options::default()
        };
        let mut out = Vec::new();
        let args = CheckArgs {
            paths: paths.to_vec(),
            format,
            strict,
        };
        let status = run(&args, &options, &[], &mut out, false).unwrap();
        let folder = format!("{}/", self.folder.path().display());
        (status, String::from_utf8(out).unwrap().replace(&folder, ""))
    }

    fn check(&self) -> (u8, String) {
        self.check_as(&[self.path("m.yaml")], Format::Text, false)
    }
}

/// Asserts on status and text; notices of file mode that every case has are left out.
#[track_caller]
fn prints(case: &Case, status: u8, expected: &str) {
    let (actual, text) = case.check();
    assert_eq!(without_notices(&text), expected, "in:\n{text}");
    assert_eq!(actual, status);
}

/// The reports that are no notices.
fn without_notices(text: &str) -> String {
    let serious = |report: &&str| report.starts_with("error") || report.starts_with("warning");
    text.split("\n\n")
        .filter(serious)
        .map(|report| format!("{report}\n"))
        .collect::<Vec<_>>()
        .join("\n")
}

const MAPPING: &str = "\
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata:
  name: web
spec:
  hostname: '*'
  prefix: /
  service: https://a.test
";

fn context(spec: &str) -> String {
    format!(
        "{MAPPING}  tls: ctx\n---\napiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata:\n  name: ctx\nspec:\n{spec}"
    )
}

/// A manifest with a Secret that the TLSContext names; lines begin with the Secret's on line 17.
fn with_secret(entries: &[(&str, &str)]) -> String {
    let mut text = context("  secret: cert\n");
    text.push_str("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: cert\nstringData:\n");
    for (key, value) in entries {
        text.push_str(&format!("  {key}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

fn certified(params: &CertificateParams) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    CertifiedKey { cert, signing_key }
}

fn client() -> CertifiedKey<KeyPair> {
    certified(&CertificateParams::new(vec!["client.test".to_owned()]).unwrap())
}

#[test]
fn fine_manifests_have_no_problem() {
    prints(&Case::new(MAPPING), 0, "");
}

#[test]
fn a_path_that_does_not_exist() {
    let case = Case::new(MAPPING);
    let (status, text) = case.check_as(
        &[case.path("none.yaml"), case.path("m.yaml")],
        Format::Text,
        false,
    );
    let expected = "\
error[unreadable_path]: path none.yaml does not exist
--> none.yaml
 = help: correct the path, or put the file there
";
    assert_eq!(without_notices(&text), expected);
    assert_eq!(status, 1);
    assert!(
        text.ends_with("1 error, 2 notices in 1 file\n"),
        "the other file is still read:\n{text}"
    );
}

#[test]
fn broken_yaml() {
    let expected = "\
error[bad_yaml]: a value is missing here
  --> m.yaml:11:8
   |
11 | kind: [
   |        ^
   |
   = help: write it, or close the bracket before it
";
    prints(&Case::new(&format!("{MAPPING}---\nkind: [\n")), 1, expected);
}

#[test]
fn an_unknown_field_names_the_nearest() {
    let expected = "\
warning[unknown_field]: Mapping has no field `spec.timeout_sm`, so it has no effect
  --> m.yaml:10:3
   |
10 |   timeout_sm: 5
   |   ^^^^^^^^^^ in Mapping web.default, spec.timeout_sm
   |
   = help: did you mean `timeout_ms`?
";
    let case = Case::new(&format!("{MAPPING}  timeout_sm: 5\n"));
    prints(&case, 0, expected);
    let (strict, _) = case.check_as(&[case.path("m.yaml")], Format::Text, true);
    assert_eq!(strict, 1);
}

#[test]
fn a_wrong_type() {
    let expected = "\
error[wrong_type]: `spec.timeout_ms` is the string \"soon\" where a whole number of milliseconds is
                   expected
  --> m.yaml:10:15
   |
10 |   timeout_ms: soon
   |               ^^^^ in Mapping web.default, spec.timeout_ms
   |
   = help: write one, without quotes or unit
";
    prints(&Case::new(&format!("{MAPPING}  timeout_ms: soon\n")), 1, expected);
}

#[test]
fn an_unknown_tls_context() {
    let expected = "\
error[tls_config_unresolved]: `spec.tls` names TLSContext `nosuch`, which does not exist
  --> m.yaml:10:8
   |
10 |   tls: nosuch
   |        ^^^^^^ in Mapping web.default, spec.tls
   |
   = help: create it or correct the name
";
    prints(&Case::new(&format!("{MAPPING}  tls: nosuch\n")), 1, expected);
}

/// What is said of the TLSContext whose Secret cannot be used; the Mapping is told the same first.
#[track_caller]
fn refuses_the_secret(entries: &[(&str, &str)], expected: &str) {
    let (status, text) = Case::new(&with_secret(entries)).check();
    let reports = without_notices(&text);
    let (mapping, secret) = reports.split_once("\n\n").unwrap();
    assert!(
        mapping.starts_with("error[tls_config_unresolved]: TLSContext ctx.default cannot be used"),
        "{text}"
    );
    assert_eq!(secret, expected);
    assert_eq!(status, 1);
}

#[test]
fn a_secret_without_key() {
    let expected = "\
error[incomplete_secret]: `spec.secret` names Secret `cert` in namespace `default`, which holds no
                          private key under a key that counts, but `tls.crt`
  --> m.yaml:17:11
   |
17 |   secret: cert
   |           ^^^^ in TLSContext ctx.default, spec.secret
   |
   = help: put one under the key `tls.key`
";
    refuses_the_secret(&[("tls.crt", &client().cert.pem())], expected);
}

#[test]
fn a_key_of_another_certificate() {
    let expected = "\
error[key_mismatch]: `spec.secret` names Secret `cert` in namespace `default`, which cannot be used:
                     the private key does not belong to certificate `CN=rcgen self signed cert`
  --> m.yaml:17:11
   |
17 |   secret: cert
   |           ^^^^ in TLSContext ctx.default, spec.secret
   |
   = help: put the key and the certificate of one pair there
";
    let (certificate, key) = (client().cert.pem(), client().signing_key.serialize_pem());
    refuses_the_secret(&[("tls.crt", &certificate), ("tls.key", &key)], expected);
}

#[test]
fn an_encrypted_key() {
    let expected = "\
error[encrypted_key]: `spec.secret` names Secret `cert` in namespace `default`, which cannot be
                      used: the private key in line 1 is encrypted, and there is nobody to ask for
                      its passphrase
  --> m.yaml:17:11
   |
17 |   secret: cert
   |           ^^^^ in TLSContext ctx.default, spec.secret
   |
   = help: store it without one, as `openssl pkey -in FILE -out tls.key` makes it
";
    let client = client();
    let key = client
        .signing_key
        .serialize_pem()
        .replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    refuses_the_secret(&[("tls.crt", &client.cert.pem()), ("tls.key", &key)], expected);
}

#[test]
fn an_expired_certificate() {
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 2);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let client = certified(&params);
    let (certificate, key) = (client.cert.pem(), client.signing_key.serialize_pem());
    let expected = "\
warning[certificate_expired]: client certificate `CN=rcgen self signed cert` of TLSContext
                              ctx.default (Secret cert.default, tls.crt) expired at
                              2020-01-02T00:00:00Z
  --> m.yaml:10:8
   |
10 |   tls: ctx
   |        ^^^ in Mapping web.default, spec.tls
   |
   = help: put a renewed one in its place

warning[certificate_expired]: certificate `CN=rcgen self signed cert` expired at
                              2020-01-02T00:00:00Z
  --> m.yaml:24:3
   |
24 |   tls.crt: (hidden)
   |   ^^^^^^^ in Secret cert.default, stringData.tls.crt
";
    prints(
        &Case::new(&with_secret(&[("tls.crt", &certificate), ("tls.key", &key)])),
        0,
        expected,
    );
}

#[test]
fn an_unknown_cipher() {
    let expected = "\
warning[unknown_name]: `spec.cipher_suites` has `ECDHE-RSA-AES128-GCM-SHA25`, which nuncio does not
                       know as a cipher suite and leaves out
  --> m.yaml:17:18
   |
17 |   cipher_suites: [ECDHE-RSA-AES128-GCM-SHA25, ECDHE-RSA-AES128-GCM-SHA256]
   |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = note: in TLSContext ctx.default, spec.cipher_suites
   = help: did you mean `ECDHE-RSA-AES128-GCM-SHA256`?
";
    prints(
        &Case::new(&context(
            "  cipher_suites: [ECDHE-RSA-AES128-GCM-SHA25, ECDHE-RSA-AES128-GCM-SHA256]\n",
        )),
        0,
        expected,
    );
}

#[test]
fn a_bad_port() {
    let expected = "\
error[service_invalid]: `spec.service` is `https://a.test:99999`, which has the port 99999, which is
                        out of range
 --> m.yaml:9:12
  |
9 |   service: https://a.test:99999
  |            ^^^^^^^^^^^^^^^^^^^^ in Mapping web.default, spec.service
  |
  = help: use one between 1 and 65535
";
    prints(
        &Case::new(&MAPPING.replace("https://a.test", "https://a.test:99999")),
        1,
        expected,
    );
}

#[test]
fn a_name_that_is_taken() {
    let expected = "\
error[duplicate]: Mapping web.default is defined a second time, and the first definition is kept
  --> m.yaml:14:9
   |
14 |   name: web
   |         ^^^ in Mapping web.default, metadata.name
   |
   = help: remove one
";
    prints(&Case::new(&format!("{MAPPING}{MAPPING}")), 1, expected);
}

#[test]
fn json_has_the_public_shape() {
    let case = Case::new(&format!("{MAPPING}  tls: nosuch\n"));
    let (status, text) = case.check_as(&[case.path("m.yaml")], Format::Json, false);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let problems = found["problems"].as_array().unwrap();
    let problem = problems
        .iter()
        .find(|problem| problem["severity"] == "error")
        .unwrap();
    let expected = serde_json::json!({
        "severity": "error",
        "reason": "tls_config_unresolved",
        "message": "`spec.tls` names TLSContext `nosuch`, which does not exist; create it or correct the name",
        "object": {"kind": "Mapping", "namespace": "default", "name": "web"},
        "field": "spec.tls",
        "file": "m.yaml",
        "line": 10,
        "column": 8,
    });
    assert_eq!(*problem, expected);
    assert_eq!(status, 1);
}

#[test]
fn no_byte_of_a_key_is_printed() {
    let key = client().signing_key.serialize_pem();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with("---")).collect();
    // Broken in every way that points at the key itself.
    let manifests = [
        with_secret(&[("tls.crt", "x"), ("tls.key", &key)]),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\nstringData:\n  tls.key: |\n    -----BEGIN PRIVATE KEY-----\n{}\n",
            lines.join("\n")
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\nstringData:\n  tls.key: \"{}\n",
            lines.join("\n")
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata: {{tls.key: {}, tls.key: {}}}\n",
            lines[0], lines[0]
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  tls.key: !secret {}\n",
            lines[0]
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  tls.key: {}: x\n",
            lines[0]
        ),
    ];
    for manifest in manifests {
        let case = Case::new(&manifest);
        for format in [Format::Text, Format::Json] {
            let (status, text) = case.check_as(&[case.path("m.yaml")], format, true);
            assert_eq!(status, 1, "{text}");
            for line in &lines {
                assert!(!text.contains(&line[..8]), "{text}");
            }
        }
    }
}
