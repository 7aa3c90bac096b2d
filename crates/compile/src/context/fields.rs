//! The fields of a TLSContext, one by one.

mod auto_sni;
mod meant;
mod revocation;

use std::sync::Arc;

use nuncio_crds::{TlsContextSpec, VerifySpec};
use nuncio_model::{
    AlgorithmName, ClientIdentity, Origin, Problem, Severity, TlsVersion, TrustBundle, VerifyMode, VerifyName,
};
use nuncio_tls::{CipherSuites, UnknownName, VersionBound};

use super::{ContextTls, Protocols, ServerName, Sourced};
use crate::expiry::Shared;
use crate::module::{self, Gateway};
use crate::names;
use crate::problems::Problems;
use crate::secrets::{Loaded, Materials, SecretName, Text, Unusable, by_purpose};
use crate::tellable::tellable;
use crate::{Object, decode};

/// Names of no HTTP version that ALPN offers at most.
const FOREIGN_ALPN: usize = 32;

/// Reads a context.
///
/// # Errors
/// The first of what makes it unusable. All of it has been reported by then.
pub(crate) fn read(
    object: &Object,
    spec: &TlsContextSpec,
    gateway: &Gateway,
    materials: &mut Materials<'_>,
    problems: &mut Problems,
) -> Result<(Sources, ContextTls), Flaw> {
    let namespacing = spec.secret_namespacing.unwrap_or(gateway.secret_namespacing);
    let mut reader = Reader {
        object,
        namespacing,
        materials,
        problems,
        flaw: None,
        certificates: Vec::new(),
        sources: Sources::default(),
    };
    reader.tell_hosts(spec);
    reader.refuse_empty(spec);
    let client = reader.client(spec);
    let bundle = reader.bundle(spec);
    let verify = reader.verify_spec(spec);
    let verify_mode = reader.verify_mode(&verify, bundle.is_some(), gateway);
    let system_roots = reader.system_roots(&verify, bundle.is_some(), verify_mode.value);
    let crls = reader.crls(spec, &verify, bundle.as_ref(), &verify_mode);
    let files = [
        &spec.cert_chain_file,
        &spec.private_key_file,
        &spec.cacert_chain_file,
    ];
    reader.sources.others = crls.is_some() || files.into_iter().any(Option::is_some);
    let pins = reader.pins(&verify, &verify_mode);
    let verify_names = reader.verify_names(&verify);
    let (mut min_version, max_version) = reader.versions(spec);
    let cipher_suites = reader.cipher_suites(spec, &mut min_version, max_version.value);
    let groups = reader.groups(spec);
    let alpn = reader.alpn(spec);
    let sni = reader.sni(spec);
    let auto_sni = reader.auto_sni(spec, sni.is_some());
    match reader.flaw {
        Some(flaw) => Err(flaw),
        None => Ok((
            reader.sources,
            ContextTls {
                context: Some(object.reference.clone()),
                sni,
                auto_sni,
                client,
                bundle,
                verify_mode,
                verify_names,
                system_roots,
                crls,
                pins,
                min_version,
                max_version,
                cipher_suites,
                groups,
                alpn,
                certificates: reader.certificates,
            },
        )),
    }
}

/// What makes a context unusable.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) message: String,
    /// A warning where it will pass without an edit.
    pub(super) severity: Severity,
}

/// What a context was made of besides its own object.
#[derive(Default)]
pub(super) struct Sources {
    /// Secrets that it named.
    pub(super) secrets: Vec<SecretName>,
    /// What was taken from them.
    pub(super) texts: Vec<Text>,
    /// It named files or revocation lists, too.
    pub(super) others: bool,
    /// What is to be told of its certificate where that is shown to upstreams.
    pub(super) unfit: Vec<Problem>,
}

struct Reader<'r, 'm> {
    object: &'r Object,
    namespacing: bool,
    materials: &'r mut Materials<'m>,
    problems: &'r mut Problems,
    /// The first thing that makes the context unusable, and rather one that has to be corrected.
    flaw: Option<Flaw>,
    certificates: Vec<Shared>,
    sources: Sources,
}

/// `spec.verify`, each value with the field or annotation it stands in.
#[derive(Default)]
struct Verify {
    mode: Option<(String, String)>,
    names: Option<(Vec<String>, String)>,
    roots: Option<(String, String)>,
    pins: Option<(Vec<String>, String)>,
}

impl Reader<'_, '_> {
    /// Reports what makes the context unusable.
    fn refuse(&mut self, reason: &'static str, field: &str, message: String) {
        self.refuse_as(Severity::Error, reason, field, message);
    }

    fn refuse_unusable(&mut self, field: &str, unusable: &Unusable) {
        let message = format!("`{field}` {}", unusable.message);
        self.refuse_as(unusable.severity, unusable.reason, field, message);
    }

    fn refuse_as(&mut self, severity: Severity, reason: &'static str, field: &str, message: String) {
        self.problems
            .report(severity, self.object, reason, field, message.clone());
        if self.flaw.as_ref().is_none_or(|flaw| flaw.severity < severity) {
            self.flaw = Some(Flaw { message, severity });
        }
    }

    fn origin(&self, field: &str) -> Origin {
        Origin::Field {
            object: self.object.reference.clone(),
            field: field.into(),
        }
    }

    fn sourced<T>(&self, value: T, field: &str) -> Sourced<T> {
        Sourced {
            value,
            origin: self.origin(field),
        }
    }

    fn take<T>(&mut self, loaded: Loaded<T>, field: &str) -> Sourced<Arc<T>> {
        self.certificates.push(loaded.certificates);
        self.sources.texts.push(loaded.text);
        self.sourced(loaded.value, field)
    }

    fn tell_hosts(&mut self, spec: &TlsContextSpec) {
        if spec.hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
            let message = "`spec.hosts` has no effect yet, because nuncio does not terminate TLS so far; what is said about upstreams works";
            self.problems
                .notice(self.object, "not_supported_yet", "spec.hosts", message);
        }
    }

    /// An empty value, such as a template leaves behind, protects nothing where something was meant to.
    fn refuse_empty(&mut self, spec: &TlsContextSpec) {
        let verify = spec.verify.as_ref();
        let texts = [
            ("secret", &spec.secret),
            ("cert_chain_file", &spec.cert_chain_file),
            ("private_key_file", &spec.private_key_file),
            ("ca_secret", &spec.ca_secret),
            ("cacert_chain_file", &spec.cacert_chain_file),
            ("crl_secret", &spec.crl_secret),
            ("crl_file", &spec.crl_file),
            ("min_tls_version", &spec.min_tls_version),
            ("max_tls_version", &spec.max_tls_version),
        ];
        let empty = |text: &Option<String>| text.as_deref().is_some_and(|text| text.trim().is_empty());
        let mut fields: Vec<&str> = texts
            .iter()
            .filter(|(_, text)| empty(text))
            .map(|(name, _)| *name)
            .collect();
        if verify.is_some_and(|verify| empty(&verify.roots)) {
            fields.push("verify.roots");
        }
        for (name, list) in [
            ("verify.names", verify.and_then(|verify| verify.names.as_ref())),
            ("verify.pins", verify.and_then(|verify| verify.pins.as_ref())),
        ] {
            if list.is_some_and(Vec::is_empty) {
                fields.push(name);
            }
        }
        for name in fields {
            let field = format!("spec.{name}");
            let message = format!(
                "`{field}` is empty, so the TLSContext cannot be used; write what it should say, or remove it"
            );
            self.refuse("empty_field", &field, message);
        }
        for (name, _) in texts {
            if self.object.document.mentions(&format!("\"{name}\":null")) {
                let field = format!("spec.{name}");
                let message =
                    format!("`{field}` is null, so it has no effect; write what it should say, or remove it");
                self.problems.warning(self.object, "empty_field", &field, message);
            }
        }
    }

    fn client(&mut self, spec: &TlsContextSpec) -> Option<Sourced<Arc<ClientIdentity>>> {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        match (
            text(&spec.secret),
            text(&spec.cert_chain_file),
            text(&spec.private_key_file),
        ) {
            (None, None, None) => None,
            (Some(secret), None, None) => self.client_from_secret(&secret),
            (Some(_), _, _) => {
                let message = "`spec.secret` and files with certificate or key are both given; keep either `secret` or `cert_chain_file` and `private_key_file`";
                self.refuse("conflicting_fields", "spec.secret", message.into());
                None
            }
            (None, Some(chain), Some(key)) => self.client_from_files(&chain, &key),
            (None, Some(_), None) => {
                let message = "`spec.cert_chain_file` needs `private_key_file` as well; add it";
                self.refuse("missing_field", "spec.cert_chain_file", message.into());
                None
            }
            (None, None, Some(_)) => {
                let message = "`spec.private_key_file` needs `cert_chain_file` as well; add it";
                self.refuse("missing_field", "spec.private_key_file", message.into());
                None
            }
        }
    }

    fn secret_name(&mut self, text: &str) -> SecretName {
        let name = SecretName::read(text, &self.object.reference.namespace, self.namespacing);
        self.sources.secrets.push(name.clone());
        name
    }

    fn client_from_secret(&mut self, secret: &str) -> Option<Sourced<Arc<ClientIdentity>>> {
        let name = self.secret_name(secret);
        match self.materials.client(&name, self.problems) {
            Ok(loaded) => {
                self.sources.unfit = self.materials.unfit(&name).to_vec();
                Some(self.take(loaded, "spec.secret"))
            }
            Err(unusable) => {
                self.refuse_unusable("spec.secret", &unusable);
                None
            }
        }
    }

    fn client_from_files(&mut self, chain: &str, key: &str) -> Option<Sourced<Arc<ClientIdentity>>> {
        match self.materials.client_from_files(chain, key) {
            Ok((loaded, findings)) => {
                const FIELD: &str = "spec.cert_chain_file";
                let (unfit, findings) = by_purpose(&findings);
                self.problems.findings(self.object, FIELD, findings);
                let mut told = Problems::default();
                told.findings(self.object, FIELD, unfit);
                self.sources.unfit = told.found();
                Some(self.take(loaded, "spec.cert_chain_file"))
            }
            Err((chain_at_fault, unusable)) => {
                let field = if chain_at_fault {
                    "spec.cert_chain_file"
                } else {
                    "spec.private_key_file"
                };
                self.refuse_unusable(field, &unusable);
                None
            }
        }
    }

    /// `ca_secret`, else `cacert_chain_file`, else the root that stands in `secret`.
    fn bundle(&mut self, spec: &TlsContextSpec) -> Option<Sourced<Arc<TrustBundle>>> {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let file = text(&spec.cacert_chain_file);
        if let Some(secret) = text(&spec.ca_secret) {
            if file.is_some() {
                let message = "`spec.cacert_chain_file` has no effect, because `ca_secret` is given as well; keep one of them";
                self.problems.warning(
                    self.object,
                    "conflicting_fields",
                    "spec.cacert_chain_file",
                    message,
                );
            }
            let name = self.secret_name(&secret);
            let outcome = self.materials.authority(&name, self.problems);
            return self.taken(outcome, "spec.ca_secret");
        }
        if let Some(path) = file {
            let outcome = self
                .materials
                .authority_from_file(&path)
                .map(|(loaded, findings)| {
                    self.problems
                        .findings(self.object, "spec.cacert_chain_file", findings);
                    loaded
                });
            return self.taken(outcome, "spec.cacert_chain_file");
        }
        let name = self.secret_name(&text(&spec.secret)?);
        let outcome = self.materials.root(&name, self.problems)?;
        self.taken(outcome, "spec.secret")
    }

    fn taken<T>(&mut self, outcome: Result<Loaded<T>, Unusable>, field: &str) -> Option<Sourced<Arc<T>>> {
        match outcome {
            Ok(loaded) => Some(self.take(loaded, field)),
            Err(unusable) => {
                self.refuse_unusable(field, &unusable);
                None
            }
        }
    }

    /// `spec.verify` and its annotations; a field wins over its annotation.
    fn verify_spec(&mut self, spec: &TlsContextSpec) -> Verify {
        self.refuse_unknown_annotations();
        let VerifySpec {
            mode,
            names,
            roots,
            pins,
        } = spec.verify.clone().unwrap_or_default();
        let list = |text: String| -> Vec<String> {
            text.split([',', ' '])
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Verify {
            mode: self.field_or_annotation("mode", mode, |text| text),
            names: self.field_or_annotation("names", names.filter(|names| !names.is_empty()), list),
            roots: self.field_or_annotation("roots", roots.filter(|roots| !roots.is_empty()), |text| text),
            pins: self.field_or_annotation("pins", pins.filter(|pins| !pins.is_empty()), list),
        }
    }

    fn field_or_annotation<T>(
        &mut self,
        name: &str,
        field: Option<T>,
        read: fn(String) -> T,
    ) -> Option<(T, String)> {
        let key = format!("nuncio/verify-{name}");
        let path = format!("metadata.annotations.{key}");
        let annotation = self.object.annotations.get(&key).cloned();
        match (field, annotation) {
            (Some(value), annotation) => {
                if annotation.is_some() {
                    let message = format!(
                        "the annotation `{key}` has no effect, because `spec.verify.{name}` is given as well; keep one of them"
                    );
                    self.problems
                        .notice(self.object, "conflicting_fields", &path, message);
                }
                Some((value, format!("spec.verify.{name}")))
            }
            (None, Some(text)) => Some((read(text.trim().to_owned()), path)),
            (None, None) => None,
        }
    }

    /// Each of them says whom to accept.
    fn refuse_unknown_annotations(&mut self) {
        let mut known = ["mode", "names", "roots", "pins"]
            .map(|name| format!("nuncio/verify-{name}"))
            .to_vec();
        known.push(auto_sni::ANNOTATION.to_owned());
        for key in self.object.annotations.keys() {
            let is_meant = key.to_lowercase().starts_with("nuncio") || decode::nearest(key, &known).is_some();
            if is_meant && !known.contains(key) {
                let hint = match decode::nearest(key, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "remove it".to_owned(),
                };
                let message =
                    format!("nuncio knows no annotation `{key}`, so the TLSContext cannot be used; {hint}");
                self.refuse("unknown_field", &format!("metadata.annotations.{key}"), message);
            }
        }
    }

    fn verify_mode(&mut self, verify: &Verify, has_ca: bool, gateway: &Gateway) -> Sourced<VerifyMode> {
        if let Some((text, field)) = &verify.mode {
            match module::verify_mode(text) {
                Some(mode) => return self.explicit_mode(mode, field, has_ca),
                None => {
                    let message = format!("`{field}` is `{text}`; write none, report, chain or full");
                    self.refuse("bad_value", field, message);
                }
            }
        }
        let by_ca = if has_ca {
            VerifyMode::Chain
        } else {
            VerifyMode::Report
        };
        let Some((value, origin)) = gateway.verify_mode.clone() else {
            return Sourced::built_in(by_ca);
        };
        if has_ca && value < VerifyMode::Chain {
            let message = format!(
                "a CA is given, but the default verification mode `{}` ({origin}) refuses nothing; set `spec.verify.mode` to chain or full to have peers refused",
                value.as_str()
            );
            self.problems
                .warning(self.object, "ca_without_effect", "spec.verify.mode", message);
        }
        Sourced { value, origin }
    }

    fn explicit_mode(&mut self, mode: VerifyMode, field: &str, has_ca: bool) -> Sourced<VerifyMode> {
        if has_ca && mode == VerifyMode::None {
            let message = format!(
                "`{field}` is none, so the CA has no effect; write chain or full to have peers refused"
            );
            self.problems
                .notice(self.object, "ca_without_effect", field, message);
        }
        self.sourced(mode, field)
    }

    /// Asked for, or the only roots there can be where a mode verifies without a CA.
    fn system_roots(&mut self, verify: &Verify, has_ca: bool, mode: VerifyMode) -> Option<Origin> {
        match &verify.roots {
            Some((text, field)) if text == "system" => Some(self.origin(field)),
            Some((text, field)) => {
                let message = format!(
                    "`{field}` is `{text}`; the only value is `system`, and a CA of your own goes into `ca_secret`"
                );
                self.refuse("bad_value", field, message);
                None
            }
            None => (!has_ca && mode != VerifyMode::None).then_some(Origin::BuiltIn),
        }
    }

    fn verify_names(&mut self, verify: &Verify) -> Option<Sourced<Arc<[VerifyName]>>> {
        let (texts, field) = verify.names.as_ref()?;
        let mut names = Vec::with_capacity(texts.len());
        for text in texts {
            match meant::verify_name(text) {
                Ok(VerifyName::Uri(uri)) if meant::is_web_address(&uri) => {
                    let message = format!(
                        "`{field}` has `{uri}`, which only a certificate with that URI as a name is good for; {}",
                        meant::server_name(&uri)
                    );
                    self.problems.warning(self.object, "bad_value", field, message);
                    names.push(VerifyName::Uri(uri));
                }
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(why) => {
                    let message = format!(
                        "`{field}` has `{text}`, which {why}; write a DNS name, an IP address or a URI"
                    );
                    self.refuse("bad_value", field, message);
                }
            }
        }
        Some(self.sourced(names.into(), field))
    }

    /// Decisions 4 and 5: 1.2 to 1.3 where nothing is said.
    fn versions(&mut self, spec: &TlsContextSpec) -> (Sourced<TlsVersion>, Sourced<TlsVersion>) {
        let min = match self.version("spec.min_tls_version", spec.min_tls_version.as_deref()) {
            None => Sourced::built_in(TlsVersion::V1_2),
            Some(VersionBound::Spoken(version)) => self.sourced(version, "spec.min_tls_version"),
            Some(VersionBound::Retired) => {
                let message = "`spec.min_tls_version` is below v1.2, which is the lowest version that is spoken (RFC 8996), and counts as v1.2";
                self.problems
                    .notice(self.object, "retired_version", "spec.min_tls_version", message);
                self.sourced(TlsVersion::V1_2, "spec.min_tls_version")
            }
        };
        let max = match self.version("spec.max_tls_version", spec.max_tls_version.as_deref()) {
            None => Sourced::built_in(TlsVersion::V1_3),
            Some(VersionBound::Spoken(version)) => self.sourced(version, "spec.max_tls_version"),
            Some(VersionBound::Retired) => {
                let message = "`spec.max_tls_version` is below v1.2, the lowest version that is spoken (RFC 8996); raise it to v1.2 or v1.3";
                self.refuse("retired_version", "spec.max_tls_version", message.into());
                Sourced::built_in(TlsVersion::V1_3)
            }
        };
        if min.value > max.value {
            let message = "`spec.min_tls_version` is above `max_tls_version`, so there is no version to speak; lower one or raise the other";
            self.refuse("conflicting_fields", "spec.min_tls_version", message.into());
        }
        (min, max)
    }

    fn version(&mut self, field: &str, text: Option<&str>) -> Option<VersionBound> {
        let text = text.filter(|text| !text.trim().is_empty())?;
        match nuncio_tls::version(text) {
            Ok(bound) => Some(bound),
            Err(unknown) => {
                let hint = unknown.nearest.map_or("write v1.2 or v1.3".to_owned(), |near| {
                    format!("did you mean `{near}`?")
                });
                let message = format!("`{field}` is `{text}`, which is no TLS version; {hint}");
                self.refuse("bad_value", field, message);
                None
            }
        }
    }

    fn cipher_suites(
        &mut self,
        spec: &TlsContextSpec,
        min: &mut Sourced<TlsVersion>,
        max: TlsVersion,
    ) -> Sourced<Arc<[AlgorithmName]>> {
        const FIELD: &str = "spec.cipher_suites";
        let Some(names) = spec.cipher_suites.as_deref().filter(|names| !names.is_empty()) else {
            return Sourced::built_in(Arc::from([]));
        };
        let CipherSuites {
            spoken,
            always,
            unspoken,
            unknown,
        } = nuncio_tls::cipher_suites(names);
        self.tell_unknown(FIELD, "cipher suite", &unknown);
        self.tell_unspoken(FIELD, "cipher suite", &unspoken);
        if spoken.is_empty() && always.is_empty() {
            let message = format!(
                "`{FIELD}` names no cipher suite that can be spoken, so nothing is left; name another or remove the field"
            );
            self.refuse("no_cipher_suite", FIELD, message);
        } else if spoken.is_empty() && max == TlsVersion::V1_3 {
            // Nothing of TLS 1.2 is wanted, and an empty list would mean all of it.
            let message = format!(
                "`{FIELD}` names suites of TLS 1.3 only, so only TLS 1.3 is spoken; name one of TLS 1.2 to speak that too"
            );
            self.problems.notice(self.object, "tls13_only", FIELD, message);
            *min = self.sourced(TlsVersion::V1_3, FIELD);
        } else if spoken.is_empty() {
            let message = format!(
                "`{FIELD}` names suites of TLS 1.3 only, but `max_tls_version` is v1.2; name one of TLS 1.2 or raise it"
            );
            self.refuse("no_cipher_suite", FIELD, message);
        }
        self.sourced(spoken.into(), FIELD)
    }

    fn groups(&mut self, spec: &TlsContextSpec) -> Sourced<Arc<[AlgorithmName]>> {
        const FIELD: &str = "spec.ecdh_curves";
        let Some(names) = spec.ecdh_curves.as_deref().filter(|names| !names.is_empty()) else {
            return Sourced::built_in(Arc::from([]));
        };
        let (mut spoken, mut unspoken, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            match nuncio_tls::group(name.trim()) {
                Ok(Some(group)) if spoken.contains(&group) => {}
                Ok(Some(group)) => spoken.push(group),
                Ok(None) => unspoken.push(name.clone()),
                Err(name) => unknown.push(name),
            }
        }
        self.tell_unknown(FIELD, "key-exchange group", &unknown);
        self.tell_unspoken(FIELD, "key-exchange group", &unspoken);
        if spoken.is_empty() {
            let message = format!(
                "`{FIELD}` names no key-exchange group that can be spoken, so nothing is left; name another or remove the field"
            );
            self.refuse("no_group", FIELD, message);
        }
        self.sourced(spoken.into(), FIELD)
    }

    fn tell_unknown(&mut self, field: &str, what: &str, unknown: &[UnknownName]) {
        for UnknownName { name, nearest } in unknown {
            let hint = nearest.map_or("remove it".to_owned(), |near| format!("did you mean `{near}`?"));
            let message = format!(
                "`{field}` has `{name}`, which nuncio does not know as a {what} and leaves out; {hint}"
            );
            self.problems.warning(self.object, "unknown_name", field, message);
        }
    }

    fn tell_unspoken(&mut self, field: &str, what: &str, unspoken: &[String]) {
        for name in unspoken {
            let message = format!(
                "`{field}` has `{name}`, a {what} that nuncio does not speak and leaves out; remove it"
            );
            self.problems
                .warning(self.object, "unspoken_name", field, message);
        }
    }

    /// Names of no HTTP version are offered as they are written, after the others: Istio's sidecars tell mutual TLS by
    /// `istio`, whatever is selected.
    fn alpn(&mut self, spec: &TlsContextSpec) -> Option<Sourced<Protocols>> {
        const FIELD: &str = "spec.alpn_protocols";
        let ids = spec
            .alpn_protocols
            .as_deref()?
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty());
        let (mut spoken, mut foreign) = (Vec::new(), Vec::<Box<str>>::new());
        for id in ids {
            match nuncio_tls::alpn_protocol(id) {
                Ok(protocol) if spoken.contains(&protocol) => {}
                Ok(protocol) => spoken.push(protocol),
                Err(_) if foreign.iter().any(|known| **known == *id) => {}
                Err(_) => foreign.push(Box::from(id)),
            }
        }
        if foreign.len() > FOREIGN_ALPN || foreign.iter().any(|name| name.len() > usize::from(u8::MAX)) {
            let message = format!(
                "`{FIELD}` cannot be sent: ALPN names have 255 bytes at most, and nuncio sends {FOREIGN_ALPN} that are no \
                 HTTP version at most; correct it"
            );
            self.refuse("bad_value", FIELD, message);
            return None;
        }
        for name in foreign.iter().filter(|name| !name.starts_with("istio")) {
            let message = format!(
                "`{FIELD}` names `{}`, which is no version of HTTP that nuncio speaks: it is offered as written, and an \
                 upstream that selects it cannot be spoken to; {}",
                tellable(name),
                meant::protocol(name)
            );
            self.problems
                .warning(self.object, "unspoken_name", FIELD, message);
        }
        let protocols = Protocols {
            spoken: spoken.into(),
            foreign: foreign.into(),
        };
        (!protocols.is_empty()).then(|| self.sourced(protocols, FIELD))
    }

    fn sni(&mut self, spec: &TlsContextSpec) -> Option<Sourced<ServerName>> {
        const FIELD: &str = "spec.sni";
        let text = spec.sni.as_deref().filter(|text| !text.is_empty())?;
        if let Some(ip) = names::ip(text) {
            let message = format!(
                "`{FIELD}` is an IP address, which cannot be sent as a server name (RFC 6066), so none is; write a DNS name"
            );
            self.problems.warning(self.object, "bad_value", FIELD, message);
            return Some(self.sourced(ServerName::Ip(ip), FIELD));
        }
        let name = names::dns_name(text).map(|name| name.trim_end_matches('.').to_owned());
        match name {
            Ok(name) if names::is_server_name(&name) => {
                Some(self.sourced(ServerName::Dns(name.into()), FIELD))
            }
            bad => {
                let why = bad
                    .err()
                    .unwrap_or("has a hyphen or a number where no server name has one");
                let fix = meant::server_name(text);
                let message = format!("`{FIELD}` is `{text}`, which {why}; {fix}");
                self.refuse("bad_value", FIELD, message);
                None
            }
        }
    }
}
