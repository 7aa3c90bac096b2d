use super::*;

#[test]
fn a_suite_is_known_by_both_of_its_names() {
    for (envoy, rfc) in TLS12_SUITES {
        assert_eq!(cipher_suite(envoy), Ok(Some(*rfc)));
        assert_eq!(cipher_suite(rfc), Ok(Some(*rfc)));
    }
    assert_eq!(
        cipher_suite("TLS_AES_256_GCM_SHA384"),
        Ok(Some("TLS_AES_256_GCM_SHA384"))
    );
    assert_eq!(cipher_suite("AES128-SHA"), Ok(None));
    assert_eq!(cipher_suite("TLS_RSA_WITH_AES_128_CBC_SHA"), Ok(None));
}

#[test]
fn an_unknown_name_comes_with_the_nearest() {
    let near = |name| cipher_suite(name).expect_err("unknown").nearest;
    assert_eq!(
        near("ECDHE-ECDSA-AES128-GCM-SHA25"),
        Some("ECDHE-ECDSA-AES128-GCM-SHA256")
    );
    assert_eq!(
        near("ecdhe-rsa-aes256-gcm-sha384"),
        Some("ECDHE-RSA-AES256-GCM-SHA384")
    );
    assert_eq!(near("!"), None);
    assert_eq!(group("x25519").expect_err("unknown").nearest, Some("X25519"));
    assert_eq!(group("P256").expect_err("unknown").nearest, Some("P-256"));
    assert_eq!(
        alpn_protocol("http/1.0").expect_err("unknown").nearest,
        Some("http/1.1")
    );
}

#[test]
fn p11_an_equal_preference_group_is_its_members() {
    let suites = cipher_suites(&["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]"]);
    assert_eq!(
        suites.spoken,
        [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        ]
    );
    assert!(suites.unknown.is_empty() && suites.unspoken.is_empty());
}

#[test]
fn p12_each_name_is_sorted_by_what_can_be_done_with_it() {
    let suites = cipher_suites(&[
        "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA",
        "NO-SUCH-SUITE",
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ]);
    assert_eq!(suites.spoken, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(suites.always, ["TLS_AES_128_GCM_SHA256"]);
    assert_eq!(suites.unspoken, ["AES128-SHA"]);
    assert_eq!(suites.unknown.len(), 1);
    assert_eq!(suites.unknown[0].name, "NO-SUCH-SUITE");
}

#[test]
fn groups_have_aliases_and_some_are_not_spoken() {
    assert_eq!(group("P-256"), Ok(Some("secp256r1")));
    assert_eq!(group("prime256v1"), group("secp256r1"));
    assert_eq!(group("X25519MLKEM768"), Ok(Some("X25519MLKEM768")));
    assert_eq!(group("X25519Kyber768Draft00"), Ok(None));
    assert_eq!(group("P-521"), Ok(None));
}

#[test]
fn d14_versions_are_spelt_one_way() {
    assert_eq!(version("v1.3"), Ok(VersionBound::Spoken(TlsVersion::V1_3)));
    assert_eq!(version("v1.2"), Ok(VersionBound::Spoken(TlsVersion::V1_2)));
    assert_eq!(version("v1.1"), Ok(VersionBound::Retired));
    for text in ["1.3", "TLSv1.3", "TLS 1.3", "v1_3"] {
        assert_eq!(
            version(text).expect_err("unknown").nearest,
            Some("v1.3"),
            "{text}"
        );
    }
}

#[test]
fn protocols_are_the_two_that_are_spoken() {
    assert_eq!(alpn_protocol("h2"), Ok(Alpn::H2));
    assert_eq!(alpn_protocol("http/1.1"), Ok(Alpn::Http1));
    assert!(alpn_protocol("h3").is_err());
}
