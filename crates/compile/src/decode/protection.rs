//! Unknown fields that were probably meant to protect something.
//!
//! A field that is misspelt or in a wrong place has no effect. Where it was meant to protect, what it was meant to protect
//! must not be open, so it counts as the known field with a value that cannot be read.

use nuncio_crds::{Protection, Spec, field_names};
use serde_json::Value;

use super::{join, most_distance, slips, unknown};

/// What an unknown field was meant to be.
pub(super) struct Meant {
    /// Path, from `spec`, of what cannot be read; empty for all of it.
    pub(super) path: &'static str,
    /// What follows from that.
    pub(super) follows: &'static str,
    /// What to do.
    pub(super) fix: String,
}

/// What a field at the root of a document was meant to be, beside the fields `known` there. One that was meant as `spec`
/// takes all that is in it along.
pub(super) fn at_root<S: Spec>(document: &Value, name: &str, known: &[String]) -> Option<Meant> {
    let first = S::PROTECTS.first()?;
    match nearest(name, known) {
        Some((_, "spec")) => {
            let fix = "did you mean `spec`?";
            let inside = || {
                let mut names = document[name].as_object()?.keys();
                names.find_map(|name| among::<S>(name, None, fix))
            };
            let whole = || Meant {
                path: "",
                follows: first.follows,
                fix: fix.to_owned(),
            };
            if document.get("spec").is_none() {
                Some(whole())
            } else {
                inside()
            }
        }
        Some(_) => None,
        None => among::<S>(name, None, "write it under `spec`"),
    }
}

/// What a field under `parent`, a path from `spec`, was meant to be.
pub(super) fn in_spec<S: Spec>(spec: &Value, parent: &str, name: &str) -> Option<Meant> {
    if (parent, name) == ("", "spec") {
        let mut names = spec[name].as_object()?.keys();
        return names.find_map(|name| among::<S>(name, None, "write its fields one level up"));
    }
    let known = field_names::<S>(parent);
    let here = nearest(name, &known);
    if let Some((_, near)) = here {
        let path = join(parent, near);
        let leads_there = |protection: &&Protection| {
            let rest = protection.path.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if let Some(protection) = S::PROTECTS.iter().find(leads_there) {
            let fix = unknown::misnomer::<S>(name).filter(|_| parent.is_empty());
            return Some(Meant {
                path: &protection.path[..path.len()],
                follows: protection.follows,
                fix: fix.map_or_else(|| format!("did you mean `{near}`?"), str::to_owned),
            });
        }
    }
    among::<S>(name, here.map(|(distance, _)| distance), "")
}

/// A protecting field of this name anywhere in `spec`, unless another known one is nearer.
fn among<S: Spec>(name: &str, nearest_here: Option<usize>, place: &str) -> Option<Meant> {
    let names: Vec<&str> = S::PROTECTS.iter().map(Protection::name).collect();
    if let Some((distance, near)) = nearest(name, &names)
        && nearest_here.is_none_or(|here| distance < here)
    {
        let protection = S::PROTECTS.iter().find(|protection| protection.name() == near)?;
        let fix = match (place, distance) {
            ("", 0) => format!("write it as `spec.{}`", protection.path),
            ("", _) => format!("did you mean `spec.{}`?", protection.path),
            (place, _) => place.to_owned(),
        };
        return Some(Meant {
            path: protection.path,
            follows: protection.follows,
            fix,
        });
    }
    if nearest_here.is_some() {
        return None;
    }
    let words = words(name);
    let fix = |protection: &Protection| match unknown::misnomer::<S>(name) {
        Some(fix) => fix.to_owned(),
        None => protection.fix.to_owned(),
    };
    let told = |protection: &&Protection| words.iter().any(|word| protection.words.contains(&word.as_str()));
    let protection = S::PROTECTS.iter().find(told)?;
    Some(Meant {
        path: protection.path,
        follows: protection.follows,
        fix: fix(protection),
    })
}

fn nearest<'a>(name: &str, known: &'a [impl AsRef<str>]) -> Option<(usize, &'a str)> {
    let measured = known
        .iter()
        .map(|known| (slips(name, known.as_ref()), known.as_ref()));
    measured
        .min()
        .filter(|(distance, _)| *distance <= most_distance(name))
}

/// The words of `a_name`, `a-name` or `aName`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && before_is_lower;
        before_is_lower = letter.is_lowercase();
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use nuncio_crds::{HostSpec, MappingSpec, ModuleSpec, TlsContextSpec};
    use serde_json::json;

    use super::*;

    fn path<S: Spec>(parent: &str, name: &str) -> Option<&'static str> {
        in_spec::<S>(&json!({}), parent, name).map(|meant| meant.path)
    }

    #[test]
    fn names_are_taken_apart_into_words() {
        assert_eq!(words("ca_secret"), ["ca", "secret"]);
        assert_eq!(words("caSecret"), ["ca", "secret"]);
        assert_eq!(words("TLSContext"), ["tlscontext"]);
        assert_eq!(words("upstream-tls"), ["upstream", "tls"]);
    }

    #[test]
    fn what_protects_is_found_by_its_name_or_its_words() {
        for name in [
            "tsl",
            "TLS",
            "Tls",
            "tls_context",
            "tlsContext",
            "ca_secret",
            "sni",
            "verify",
            "ssl",
        ] {
            assert_eq!(path::<MappingSpec>("", name), Some("tls"), "{name}");
        }
        assert_eq!(path::<MappingSpec>("", "headrs"), Some("headers"));
        assert_eq!(path::<MappingSpec>("", "host_name"), Some("hostname"));
        for name in [
            "timeout_sm",
            "request_headers",
            "prefx",
            "weigth",
            "zzz",
            "rewrit",
        ] {
            assert_eq!(path::<MappingSpec>("", name), None, "{name}");
        }
        for (name, meant) in [
            ("caSecret", "ca_secret"),
            ("min_tls_verison", "min_tls_version"),
            ("verfy", "verify"),
            ("trusted_ca", "verify"),
            ("mode", "verify.mode"),
        ] {
            assert_eq!(path::<TlsContextSpec>("", name), Some(meant), "{name}");
        }
        assert_eq!(path::<TlsContextSpec>("verify", "mod"), Some("verify.mode"));
        assert_eq!(path::<TlsContextSpec>("verify", "ca_secret"), Some("ca_secret"));
        assert_eq!(path::<TlsContextSpec>("", "hosst"), None);
        assert_eq!(path::<TlsContextSpec>("", "alpn_protocol"), None);
        assert_eq!(path::<ModuleSpec>("config", "ip_alow"), Some("config.ip_allow"));
        assert_eq!(path::<ModuleSpec>("", "ip_deny"), Some("config.ip_deny"));
        assert_eq!(path::<ModuleSpec>("", "confg"), Some("config"));
        let mode = "config.defaults.upstream_tls_verify_mode";
        assert_eq!(
            path::<ModuleSpec>("config", "upstream_tls_verify_mode"),
            Some(mode)
        );
        assert_eq!(path::<ModuleSpec>("config", "server_nam"), None);
        for name in ["hostnme", "host", "domain"] {
            assert_eq!(path::<HostSpec>("", name), Some("hostname"), "{name}");
        }
        assert_eq!(path::<HostSpec>("", "requestPolcy"), None);
    }

    #[test]
    fn what_protects_is_found_beside_spec() {
        let known = ["apiVersion", "kind", "metadata", "spec", "status"].map(str::to_owned);
        let meant = |document: &Value, name| at_root::<TlsContextSpec>(document, name, &known);
        let path = |name| meant(&json!({}), name).map(|meant| meant.path);
        assert_eq!(path("ca_secret"), Some("ca_secret"));
        assert_eq!(path("sepc"), Some(""));
        assert_eq!(path("metdata"), None);
        assert_eq!(path("zzz"), None);
        let beside = |name: &str| {
            let document = json!({"spec": {}, "sepc": {name: "x"}});
            meant(&document, "sepc").map(|meant| meant.path)
        };
        assert_eq!(beside("ca_secret"), Some("ca_secret"));
        assert_eq!(beside("hosts"), None);
    }
}
