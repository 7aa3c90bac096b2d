//! Chains by the rules of RFC 5280, one rule each, as suites of vectors describe them: docs/reference/x509.md has the
//! table.

use std::time::SystemTime;

use nuncio_model::Roots;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
};

use super::*;
use crate::fixture::*;
use crate::handshake::unix_time;
use crate::trust_bundle;

/// What `full` says of a chain under this root, for `a.test`.
fn verdict(root: &Authority, chain: &[&Authority], leaf: &CertificateParams) -> Result<(), Flaw> {
    verdict_for(dns("a.test"), root, chain, leaf)
}

/// The same for another name. `chain` is the CAs between, that under the root first.
fn verdict_for(
    name: VerifyName,
    root: &Authority,
    chain: &[&Authority],
    leaf: &CertificateParams,
) -> Result<(), Flaw> {
    let issuer = chain.last().unwrap_or(&root);
    let leaf = CertificateDer::from(issuer.issue(leaf).chain.remove(0));
    let sent: Vec<CertificateDer<'_>> = chain.iter().map(|ca| CertificateDer::from(ca.der())).collect();
    let (bundle, _) = trust_bundle(root.pem().as_bytes(), SystemTime::now()).expect("a bundle");
    let judge = Judge::new(Standards {
        trust: Trust::of(&Roots {
            bundle: Some(Arc::new(bundle)),
            system: false,
        }),
        names: [name].into(),
        revocation: None,
        pins: [].into(),
    });
    let judgement = judge.judge(&leaf, &sent, unix_time(SystemTime::now()));
    judgement
        .refusal(VerifyMode::Full)
        .map_or(Ok(()), |flaw| Err(flaw.clone()))
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "tests read better so")]
fn assert_accepted(verdict: Result<(), Flaw>) {
    assert_eq!(verdict, Ok(()));
}

/// The message has all of `words`, and nothing of a library's identifiers.
#[track_caller]
fn assert_refused(verdict: Result<(), Flaw>, reason: Reason, words: &[&str]) {
    let flaw = verdict.expect_err("a refusal");
    assert_eq!(flaw.reason, reason, "{}", flaw.message);
    for word in words {
        assert!(flaw.message.contains(word), "no `{word}` in `{}`", flaw.message);
    }
}

fn below(ca: &Authority, params: CertificateParams) -> Authority {
    Authority {
        issuer: CertifiedIssuer::signed_by(params, new_key(), &ca.issuer).expect("a CA"),
    }
}

fn leaf() -> CertificateParams {
    leaf_params(&["a.test"])
}

fn permitting(mut params: CertificateParams, base: GeneralSubtree) -> CertificateParams {
    let constraints = params.name_constraints.get_or_insert(NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: Vec::new(),
    });
    constraints.permitted_subtrees.push(base);
    params
}

fn excluding(mut params: CertificateParams, base: GeneralSubtree) -> CertificateParams {
    let constraints = params.name_constraints.get_or_insert(NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: Vec::new(),
    });
    constraints.excluded_subtrees.push(base);
    params
}

fn dns_base(name: &str) -> GeneralSubtree {
    GeneralSubtree::DnsName(name.to_owned())
}

fn organization(name: &str, common: Option<&str>) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::OrganizationName, name);
    if let Some(common) = common {
        all.push(DnType::CommonName, common);
    }
    all
}

fn directory_base(name: &str) -> GeneralSubtree {
    GeneralSubtree::DirectoryName(organization(name, None))
}

/// A leaf of this organization.
fn leaf_of(name: &str) -> CertificateParams {
    let mut params = leaf();
    params.distinguished_name = organization(name, Some("a"));
    params
}

fn with_length(name: &str, length: u8) -> CertificateParams {
    let mut params = ca_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
    params
}

fn with_critical(mut params: CertificateParams, oid: &[u64]) -> CertificateParams {
    let mut extension = CustomExtension::from_oid_content(oid, vec![0x30, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    params
}

const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const SUBJECT_KEY: &[u64] = &[2, 5, 29, 14];
const STRANGE: &[u64] = &[1, 3, 6, 1, 4, 1, 99999, 1];

#[test]
fn a_permitted_directory_name_lets_its_own_pass() {
    for place_of_root in [true, false] {
        let params = permitting(ca_params("limited"), directory_base("Shop"));
        let (root, chain) = match place_of_root {
            true => (Authority::from_params(params), Vec::new()),
            false => {
                let root = Authority::new("root");
                let limited = below(&root, params);
                (root, vec![limited])
            }
        };
        let chain: Vec<&Authority> = chain.iter().collect();
        assert_accepted(verdict(&root, &chain, &leaf_of("Shop")));
        // Capitals and spaces do not count.
        assert_accepted(verdict(&root, &chain, &leaf_of("SHOP ")));
        assert_refused(
            verdict(&root, &chain, &leaf_of("Other")),
            Reason::NameConstraint,
            &["`CN=limited` permits only dirName:O=Shop", "dirName:CN=a,O=Other"],
        );
        let mut both = leaf_of("Shop");
        both.subject_alt_names
            .push(SanType::DnsName("b.test".try_into().expect("a name")));
        assert_accepted(verdict(&root, &chain, &both));
    }
}

#[test]
fn an_excluded_directory_name_refuses_its_own_only() {
    let root = Authority::from_params(excluding(ca_params("root"), directory_base("Shop")));
    assert_accepted(verdict(&root, &[], &leaf_of("Other")));
    assert_refused(
        verdict(&root, &[], &leaf_of("Shop")),
        Reason::NameConstraint,
        &["CA certificate `CN=root` excludes dirName:O=Shop"],
    );
}

#[test]
fn a_constraint_on_directory_names_leaves_the_others_in_force() {
    let params = permitting(ca_params("root"), directory_base("Shop"));
    let root = Authority::from_params(permitting(params, dns_base("b.test")));
    assert_refused(
        verdict(&root, &[], &leaf_of("Shop")),
        Reason::NameConstraint,
        &["permits only DNS:b.test", "is for DNS:a.test"],
    );
    // An intermediate between is held against them as well.
    let root = Authority::from_params(permitting(ca_params("root"), directory_base("Shop")));
    let mut between = ca_params("between");
    between.distinguished_name = organization("Other", Some("between"));
    let between = below(&root, between);
    assert_refused(
        verdict(&root, &[&between], &leaf_of("Shop")),
        Reason::NameConstraint,
        &["is for dirName:CN=between,O=Other"],
    );
}

#[test]
fn constraints_on_dns_names_hold_for_labels() {
    for (base, name, is_permitted) in [
        ("a.test", "a.test", true),
        ("a.test", "b.a.test", true),
        ("a.test", "ba.test", false),
        ("A.TEST", "a.test", true),
        ("b.test", "a.test", false),
        (".a.test", "b.a.test", true),
        (".a.test", "a.test", false),
    ] {
        // Beside one on directory names, which `webpki` leaves to us.
        for beside in [false, true] {
            let mut params = permitting(ca_params("root"), dns_base(base));
            if beside {
                params = permitting(params, directory_base("Shop"));
            }
            let root = Authority::from_params(params);
            let mut leaf = leaf_params(&[name]);
            leaf.distinguished_name = organization("Shop", None);
            let verdict = verdict_for(dns(name), &root, &[], &leaf);
            match is_permitted {
                true => assert_accepted(verdict),
                false => assert_refused(verdict, Reason::NameConstraint, &[base, name, "`CN=root`"]),
            }
        }
    }
}

#[test]
fn a_wildcard_is_refused_where_it_may_stand_for_an_excluded_name() {
    for beside in [false, true] {
        let mut params = excluding(ca_params("root"), dns_base("bad.a.test"));
        if beside {
            params = permitting(params, directory_base("Shop"));
        }
        let root = Authority::from_params(params);
        let mut wildcard = leaf_params(&["*.a.test"]);
        wildcard.distinguished_name = organization("Shop", None);
        assert_refused(
            verdict_for(dns("b.a.test"), &root, &[], &wildcard),
            Reason::NameConstraint,
            &["excludes DNS:bad.a.test", "DNS:*.a.test"],
        );
    }
}

#[test]
fn constraints_on_addresses_are_networks() {
    let network = |mask| GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], mask));
    for beside in [false, true] {
        let root = |mask| {
            let mut params = permitting(ca_params("root"), network(mask));
            if beside {
                params = permitting(params, directory_base("Shop"));
            }
            Authority::from_params(params)
        };
        let leaf = |address| {
            let mut leaf = leaf_params(&[address]);
            leaf.distinguished_name = organization("Shop", None);
            leaf
        };
        assert_accepted(verdict_for(ip(5), &root([255, 0, 0, 0]), &[], &leaf("10.0.0.5")));
        for (root, address) in [
            (root([255, 255, 255, 255]), "10.0.0.5"),
            (root([255, 0, 255, 0]), "10.0.0.5"),
            (root([255, 0, 0, 0]), "2001:db8::1"),
        ] {
            let name = VerifyName::Ip(address.parse().expect("an address"));
            verdict_for(name, &root, &[], &leaf(address)).expect_err("outside");
        }
    }
}

#[test]
fn names_of_kinds_that_are_not_supported_are_refused_where_limited() {
    let mail = GeneralSubtree::Rfc822Name("a.test".to_owned());
    let root = Authority::from_params(permitting(ca_params("root"), mail));
    assert_accepted(verdict(&root, &[], &leaf()));
    let mut with_mail = leaf();
    let address = "me@a.test".to_owned().try_into().expect("an address");
    with_mail.subject_alt_names.push(SanType::Rfc822Name(address));
    assert_refused(
        verdict(&root, &[], &with_mail),
        Reason::NameConstraint,
        &["permits only email:a.test"],
    );
}

/// A CA, and a certificate that it has issued itself for a new key.
fn rolled_over(root: &Authority, params: &CertificateParams) -> (Authority, Authority) {
    let old = below(root, params.clone());
    let new = below(&old, params.clone());
    (old, new)
}

#[test]
fn a_ca_that_issued_itself_a_new_key_does_not_count_for_path_lengths() {
    let root = Authority::new("root");
    let (old, new) = rolled_over(&root, &with_length("rolled over", 1));
    let last = below(&new, with_length("last", 0));
    assert_accepted(verdict(&root, &[&old, &new, &last], &leaf()));
    // Another name counts.
    let other = below(&old, with_length("other", 1));
    let last = below(&other, with_length("last", 0));
    assert_refused(
        verdict(&root, &[&old, &other, &last], &leaf()),
        Reason::BadIssuer,
        &[
            "certificate `CN=rolled over` allows one other CA below it",
            "has 2",
        ],
    );
}

#[test]
fn a_ca_that_issued_itself_a_new_key_is_not_held_against_constraints() {
    let root = Authority::from_params(permitting(ca_params("root"), dns_base("a.test")));
    let mut params = ca_params("root");
    params.subject_alt_names = leaf_params(&["b.test"]).subject_alt_names;
    let renewed = below(&root, params.clone());
    assert_accepted(verdict(&root, &[&renewed], &leaf()));
    // As the peer's own certificate it is, and so is a CA of another name.
    let outside = leaf_params(&["b.test"]);
    assert_refused(
        verdict_for(dns("b.test"), &root, &[&renewed], &outside),
        Reason::NameConstraint,
        &["permits only DNS:a.test", "certificate `CN=b.test`"],
    );
    params.distinguished_name = organization("other", None);
    let other = below(&root, params);
    assert_refused(
        verdict(&root, &[&other], &leaf()),
        Reason::NameConstraint,
        &["DNS:b.test"],
    );
}

#[test]
fn path_lengths_of_intermediates_and_of_the_root_hold() {
    let root = Authority::new("root");
    let first = below(&root, with_length("first", 0));
    assert_accepted(verdict(&root, &[&first], &leaf()));
    let second = below(&first, with_length("second", 0));
    assert_refused(
        verdict(&root, &[&first, &second], &leaf()),
        Reason::BadIssuer,
        &["certificate `CN=first` allows no other CA below it"],
    );
    // A length may rise again further down.
    let first = below(&root, with_length("first", 1));
    let second = below(&first, with_length("second", 2));
    assert_accepted(verdict(&root, &[&first, &second], &leaf()));
    let short = Authority::from_params(with_length("short", 0));
    assert_accepted(verdict(&short, &[], &leaf()));
    let between = below(&short, ca_params("between"));
    assert_refused(
        verdict(&short, &[&between], &leaf()),
        Reason::BadIssuer,
        &["the configured CA certificate `CN=short` allows no other CA"],
    );
}

#[test]
fn a_root_that_may_not_end_a_chain_is_named_with_the_reason() {
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = ca_params("plain-root");
        change(&mut params);
        Authority::from_params(params)
    };
    for (root, why) in [
        (
            with(|params| params.is_ca = IsCa::NoCa),
            "it has no basicConstraints",
        ),
        (
            with(|params| params.is_ca = IsCa::ExplicitNoCa),
            "its basicConstraints say CA:FALSE",
        ),
        (
            with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "its keyUsage lacks keyCertSign",
        ),
        (
            with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "its extended key usage lacks serverAuth",
        ),
        (
            Authority::from_params(with_critical(ca_params("plain-root"), STRANGE)),
            "its extension 1.3.6.1.4.1.99999.1 is marked critical and is not supported",
        ),
        (
            Authority::from_params(with_critical(ca_params("plain-root"), AUTHORITY_KEY)),
            "its authorityKeyIdentifier is marked critical",
        ),
    ] {
        let words = [
            "the configured certificate `CN=plain-root` may not issue certificates",
            why,
        ];
        assert_refused(verdict(&root, &[], &leaf()), Reason::BadIssuer, &words);
    }
}

#[test]
fn an_intermediate_that_may_not_issue_is_named_with_the_reason() {
    let root = Authority::new("root");
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = ca_params("between");
        change(&mut params);
        below(&root, params)
    };
    for (between, why) in [
        (
            with(|params| params.is_ca = IsCa::NoCa),
            "it has no basicConstraints",
        ),
        (
            with(|params| params.is_ca = IsCa::ExplicitNoCa),
            "its basicConstraints say CA:FALSE",
        ),
        (
            with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            "its keyUsage lacks keyCertSign",
        ),
    ] {
        let words = ["certificate `CN=between` may not issue certificates", why];
        assert_refused(verdict(&root, &[&between], &leaf()), Reason::BadIssuer, &words);
    }
}

#[test]
fn critical_extensions_that_are_not_supported_are_refused_anywhere() {
    let root = Authority::new("root");
    for oid in [STRANGE, AUTHORITY_KEY, SUBJECT_KEY] {
        let words = ["`CN=a.test` has an extension that is marked critical"];
        assert_refused(
            verdict(&root, &[], &with_critical(leaf(), oid)),
            Reason::BadCertificate,
            &words,
        );
    }
    let between = below(&root, with_critical(ca_params("between"), STRANGE));
    let words = ["certificate `CN=between` has an extension that is marked critical"];
    assert_refused(
        verdict(&root, &[&between], &leaf()),
        Reason::BadCertificate,
        &words,
    );
}

#[test]
fn a_wildcard_for_a_top_level_domain_counts_for_nothing() {
    let root = Authority::new("root");
    for (pattern, name) in [
        ("*.com", "example.com"),
        ("*.CoM", "example.com"),
        ("*.xn--p1ai", "a.xn--p1ai"),
    ] {
        assert_refused(
            verdict_for(dns(name), &root, &[], &leaf_params(&[pattern])),
            Reason::NameMismatch,
            &["a wildcard for a whole top-level domain does not count"],
        );
    }
    for (pattern, name) in [
        ("*.internal", "a.internal"),
        ("*.example.com", "a.example.com"),
        ("*.test", "a.test"),
    ] {
        assert_accepted(verdict_for(dns(name), &root, &[], &leaf_params(&[pattern])));
    }
}

#[test]
fn an_extension_that_stands_twice_is_refused() {
    let root = Authority::new("root");
    let mut twice = leaf();
    let extension = CustomExtension::from_oid_content(STRANGE, vec![0x30, 0]);
    twice.custom_extensions = vec![extension.clone()];
    assert_accepted(verdict(&root, &[], &twice));
    twice.custom_extensions.push(extension);
    assert_refused(
        verdict(&root, &[], &twice),
        Reason::BadCertificate,
        &["certificate `CN=a.test` has an extension twice"],
    );
}
