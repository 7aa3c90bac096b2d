//! Names that a CA may not issue for (nameConstraints, RFC 5280 section 4.2.1.10).
//!
//! `webpki` has constraints of its own on DNS names and addresses and refuses every chain with one on directory names.
//! Here are all of them, for the search in `path` and to say in words which name breaks which constraint.
//! What is not supported is refused where a certificate has a name of that kind.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

use crate::describe::{distinguished_name, general_name};

/// Comparisons of a name with a constraint that one certificate may cost.
const MOST_COMPARISONS: usize = 250_000;

/// Which constraint of `issuer` a certificate below it breaks, to be read after the issuer's name; none where it keeps
/// them all.
pub(crate) fn broken(issuer: &X509Certificate<'_>, below: &X509Certificate<'_>) -> Option<String> {
    let constraints = match issuer.name_constraints() {
        Ok(None) => return None,
        Ok(Some(constraints)) => constraints.value,
        Err(_) => return Some("has nameConstraints that cannot be read".to_owned()),
    };
    let Ok(alternative) = below.subject_alternative_name() else {
        return Some(
            "limits names, and the subjectAltName of the certificate below cannot be read".to_owned(),
        );
    };
    let alternative = alternative.map(|extension| &extension.value.general_names);
    let names: Vec<&GeneralName<'_>> = alternative.into_iter().flatten().collect();
    let bases =
        subtrees(&constraints.permitted_subtrees).len() + subtrees(&constraints.excluded_subtrees).len();
    if names.len().saturating_add(1).saturating_mul(bases) > MOST_COMPARISONS {
        return Some("has more nameConstraints than are compared with so many names".to_owned());
    }
    let subject = below.subject();
    let of_subject =
        (subject.iter_rdn().next().is_some()).then(|| GeneralName::DirectoryName(subject.clone()));
    names
        .into_iter()
        .chain(of_subject.as_ref())
        .find_map(|name| broken_by(constraints, name))
        .or_else(|| email_of_subject(constraints, subject))
}

fn subtrees<'a, 'b>(subtrees: &'a Option<Vec<GeneralSubtree<'b>>>) -> &'a [GeneralSubtree<'b>] {
    subtrees.as_deref().unwrap_or_default()
}

fn broken_by(constraints: &NameConstraints<'_>, name: &GeneralName<'_>) -> Option<String> {
    let same = |subtree: &&GeneralSubtree<'_>| is_same_kind(&subtree.base, name);
    for subtree in subtrees(&constraints.excluded_subtrees).iter().filter(same) {
        if is_within(name, &subtree.base, Side::Excluded) != Some(false) {
            return Some(format!(
                "excludes {}, and a certificate below it is for {}",
                general_name(&subtree.base),
                general_name(name)
            ));
        }
    }
    let permitted: Vec<_> = subtrees(&constraints.permitted_subtrees)
        .iter()
        .filter(same)
        .collect();
    // One that cannot be read permits nothing, not even beside one that can.
    let all: Option<Vec<bool>> = permitted
        .iter()
        .map(|subtree| is_within(name, &subtree.base, Side::Permitted))
        .collect();
    if permitted.is_empty() || all.is_some_and(|all| all.contains(&true)) {
        return None;
    }
    let bases: Vec<String> = permitted
        .iter()
        .take(5)
        .map(|subtree| general_name(&subtree.base))
        .collect();
    Some(format!(
        "permits only {}, and a certificate below it is for {}",
        bases.join(", "),
        general_name(name)
    ))
}

/// The older place for an address of mail, which is held against constraints as well.
fn email_of_subject(constraints: &NameConstraints<'_>, subject: &X509Name<'_>) -> Option<String> {
    let limits = subtrees(&constraints.permitted_subtrees)
        .iter()
        .chain(subtrees(&constraints.excluded_subtrees))
        .any(|subtree| matches!(subtree.base, GeneralName::RFC822Name(_)));
    (limits && subject.iter_email().next().is_some()).then(|| {
        format!(
            "limits addresses of mail, which is not supported, and a certificate below it has one in `{}`",
            distinguished_name(subject)
        )
    })
}

fn is_same_kind(base: &GeneralName<'_>, name: &GeneralName<'_>) -> bool {
    std::mem::discriminant(base) == std::mem::discriminant(name)
}

/// Which list a constraint stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Permitted,
    Excluded,
}

/// Whether a name is in a subtree of its kind; none where one of them cannot be read or its kind is not supported.
fn is_within(name: &GeneralName<'_>, base: &GeneralName<'_>, side: Side) -> Option<bool> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => dns_is_within(name, base, side),
        (GeneralName::IPAddress(name), GeneralName::IPAddress(base)) => address_is_within(name, base),
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            Some(directory_is_within(name, base))
        }
        _ => None,
    }
}

/// A name is in the subtree that its last labels are. A base with a leading dot, which OpenSSL and others take, has the
/// names below it only.
fn dns_is_within(name: &str, base: &str, side: Side) -> Option<bool> {
    let is_readable = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let (wildcard, rest) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    if rest.is_empty() || !is_readable(rest) || !is_readable(base) {
        return None;
    }
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let below = name
        .strip_suffix(&base)
        .is_some_and(|labels| match base.starts_with('.') {
            true => !labels.is_empty(),
            false => labels.is_empty() || labels.ends_with('.'),
        });
    // A wildcard stands for names in a subtree that begins one label below its own.
    let may_be_below = || {
        let parent = base
            .trim_start_matches('.')
            .split_once('.')
            .map(|(_, parent)| parent);
        wildcard && name.strip_prefix("*.") == parent
    };
    Some(base.is_empty() || below || (side == Side::Excluded && may_be_below()))
}

/// An address is in a network whose mask is whole.
fn address_is_within(name: &[u8], base: &[u8]) -> Option<bool> {
    let (network, mask) = base.split_at_checked(base.len() / 2)?;
    if !matches!(base.len(), 8 | 32) || !matches!(name.len(), 4 | 16) || !is_prefix_mask(mask) {
        return None;
    }
    // One of IPv4 is in no network of IPv6.
    if name.len() != network.len() {
        return Some(false);
    }
    let bits = name.iter().zip(network).zip(mask);
    Some(
        bits.into_iter()
            .all(|((name, network), mask)| name & mask == network & mask),
    )
}

fn is_prefix_mask(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let first_gap = mask.iter().position(|byte| *byte != 0xff).unwrap_or(mask.len());
    ones == set && mask.iter().skip(first_gap + 1).all(|byte| *byte == 0)
}

/// A name is below another where it begins with the other's parts (X.501).
fn directory_is_within(name: &X509Name<'_>, base: &X509Name<'_>) -> bool {
    let mut parts = name.iter_rdn();
    base.iter_rdn()
        .all(|wanted| parts.next().is_some_and(|part| is_same_part(part, wanted)))
}

fn is_same_part(part: &RelativeDistinguishedName<'_>, wanted: &RelativeDistinguishedName<'_>) -> bool {
    let has = |wanted: &AttributeTypeAndValue<'_>| {
        part.iter().any(|attribute| is_same_attribute(attribute, wanted))
    };
    part.iter().count() == wanted.iter().count() && wanted.iter().all(has)
}

/// Strings are compared without regard to capitals and repeated spaces (RFC 5280 section 7.1).
fn is_same_attribute(one: &AttributeTypeAndValue<'_>, other: &AttributeTypeAndValue<'_>) -> bool {
    let folded = |attribute: &AttributeTypeAndValue<'_>| {
        let text = attribute.as_str().ok()?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        Some(words.join(" ").to_ascii_lowercase())
    };
    let same_value = match (folded(one), folded(other)) {
        (Some(one), Some(other)) => one == other,
        _ => {
            one.attr_value().header.tag() == other.attr_value().header.tag()
                && one.as_slice() == other.as_slice()
        }
    };
    one.attr_type() == other.attr_type() && same_value
}
