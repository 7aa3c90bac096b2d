use std::sync::Arc;

use super::*;
use crate::{
    ClientCertificateReport, HandshakeReport, Identity, Outcome, Resolve, Roots, TlsSettings, TlsVersion,
    UpstreamHost, UpstreamHttp, Verify, VerifyReport,
};

/// Midnight, a long time after 1970.
const END: i64 = 20_000 * DAY;

fn certificate(begin: i64, end: i64) -> CertificateInfo {
    CertificateInfo {
        subject: "CN=a.test".into(),
        issuer: "CN=ca".into(),
        sans: Vec::new(),
        not_before: String::new(),
        not_after: format!("T{end}"),
        not_before_seconds: begin,
        not_after_seconds: end,
        sha256: String::new(),
        pin: String::new(),
    }
}

/// What is told of it at each moment at which something else is, from its first second on.
fn life(warnings: &ExpiryWarnings, certificate: &CertificateInfo) -> Vec<(i64, Stage)> {
    let mut now = certificate.not_before_seconds - 1;
    let mut moments = Vec::new();
    while let Some(next) = warnings.next(certificate, now) {
        assert_eq!(
            warnings.stage(certificate, next - 1),
            warnings.stage(certificate, now),
            "nothing changes unannounced"
        );
        now = next;
        moments.push((now, warnings.stage(certificate, now)));
    }
    moments
}

fn expires(within: u16, midnights: i64) -> Stage {
    Stage::Expires { within, midnights }
}

#[test]
fn the_warnings_come_at_their_days_and_count_down_at_midnight() {
    let end = END + DAY / 2;
    let certificate = certificate(END - 365 * DAY, end);
    let life = life(&ExpiryWarnings::default(), &certificate);
    assert_eq!(life[0], (END - 365 * DAY, Stage::Fine));
    assert_eq!(life[1], (end - 30 * DAY, expires(30, 30)));
    assert_eq!(life[2], (END - 29 * DAY, expires(30, 29)));
    let second = life
        .iter()
        .position(|(_, stage)| *stage == expires(7, 7))
        .unwrap();
    assert_eq!(life[second], (end - 7 * DAY, expires(7, 7)));
    assert_eq!(life[second - 1], (END - 7 * DAY, expires(30, 7)));
    let last = &life[life.len() - 2..];
    assert_eq!(last, [(END, expires(7, 0)), (end + 1, Stage::Expired)]);
    assert_eq!(
        life.len(),
        1 + 30 + 1 + 1 + 1,
        "midnights, both warnings, both ends"
    );
}

#[test]
fn a_short_life_is_warned_of_in_its_last_third() {
    let day = certificate(END, END + DAY);
    let life = life(&ExpiryWarnings::default(), &day);
    assert_eq!(
        life,
        [
            (END, Stage::Fine),
            (END + 2 * DAY / 3, expires(7, 1)),
            (END + DAY, expires(7, 0)),
            (END + DAY + 1, Stage::Expired),
        ]
    );
}

#[test]
fn without_warnings_only_the_end_is_told() {
    let off = ExpiryWarnings::new([0]);
    assert!(off.days().is_empty());
    let life = life(&off, &certificate(END, END + 90 * DAY));
    assert_eq!(life, [(END, Stage::Fine), (END + 90 * DAY + 1, Stage::Expired)]);
}

#[test]
fn days_are_put_in_order_and_counted_once() {
    assert_eq!(ExpiryWarnings::new([7, 0, 30, 7, 14]).days(), [30, 14, 7]);
}

/// Dates at either end of what a certificate can hold.
#[test]
fn no_date_is_too_much() {
    for (begin, end) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, i64::MIN)] {
        let certificate = certificate(begin, end);
        for now in [i64::MIN, 0, i64::MAX] {
            let warnings = ExpiryWarnings::new([u16::MAX, 1]);
            let _ = (
                warnings.stage(&certificate, now),
                warnings.next(&certificate, now),
            );
        }
    }
}

#[test]
fn which_warning_it_is_stands_in_its_words() {
    let certificate = certificate(0, END);
    let said = |within, midnights| expires(within, midnights).said_of(&certificate).unwrap();
    assert_eq!(
        said(30, 12),
        format!("expires within 30 days (in 12 days, at T{END})")
    );
    assert_eq!(said(7, 1), format!("expires within 7 days (tomorrow, at T{END})"));
    assert_eq!(said(1, 0), format!("expires within 1 day (today, at T{END})"));
    assert_eq!(
        Stage::Expired.said_of(&certificate).unwrap(),
        format!("expired at T{END}")
    );
    assert_eq!(Stage::Fine.said_of(&certificate), None);
}

fn endpoint(address: &str, peer: Vec<CertificateInfo>) -> EndpointStatus {
    let report = HandshakeReport {
        outcome: Outcome::Ok,
        message: String::new(),
        remedy: String::new(),
        at: String::new(),
        sni: None,
        version: None,
        cipher: None,
        group: None,
        alpn: None,
        resumed: false,
        hello_retried: false,
        duration_ms: 0.0,
        client_certificate: ClientCertificateReport::default(),
        verify: VerifyReport {
            mode: VerifyMode::Chain,
            result: Outcome::Ok,
            names: Vec::new(),
        },
        peer,
    };
    EndpointStatus {
        address: address.into(),
        active: 0,
        idle: 0,
        last_handshake: Some(Arc::new(report)),
        remembered: None,
    }
}

fn upstream(mode: VerifyMode) -> Upstream {
    let settings = TlsSettings {
        sni: None,
        auto_sni: crate::AutoSni::Off,
        verify: Verify {
            mode,
            names: [].into(),
            roots: Roots {
                bundle: None,
                system: true,
            },
            crls: None,
            pins: [].into(),
        },
        client: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: [].into(),
        groups: [].into(),
        alpn: [].into(),
        foreign_alpn: [].into(),
    };
    Upstream {
        name: "https://a.test:443".into(),
        identity: Arc::new(Identity {
            host: UpstreamHost::Name("a.test".into()),
            port: 443,
            resolve: Resolve::Dns("a.test".into()),
            tls: Some(Arc::new(settings)),
            http: UpstreamHttp::Http1,
        }),
        mappings: Vec::new(),
        origins: None,
        other_origins: Vec::new(),
    }
}

#[test]
fn of_what_an_upstream_shows_the_first_to_end_is_told() {
    let (leaf, issuer) = (certificate(0, END), certificate(0, END + 3 * DAY));
    let later = certificate(0, END + 900 * DAY);
    let endpoints = [
        endpoint("10.0.0.1:443", vec![later.clone()]),
        endpoint("10.0.0.2:443", vec![later, issuer.clone()]),
        endpoint("10.0.0.3:443", vec![leaf, issuer]),
    ];
    let warnings = ExpiryWarnings::default();
    let tell = |mode, now| peer_expiry(&upstream(mode), &endpoints, &warnings, now);
    let told = tell(VerifyMode::Chain, END - DAY).unwrap();
    assert_eq!(told.reason, UPSTREAM_CERTIFICATE_EXPIRES);
    assert_eq!(
        told.message,
        format!(
            "certificate `CN=a.test` that https://a.test:443 showed at endpoint 10.0.0.3:443 (likewise 1 more \
             endpoint) expires within 7 days (tomorrow, at T{END}); renew it on the upstream"
        )
    );
    let told = tell(VerifyMode::Full, END + 1).unwrap();
    assert_eq!(told.reason, UPSTREAM_CERTIFICATE_EXPIRED);
    assert!(
        told.message
            .ends_with("so new connections are refused as `expired`; renew it on the upstream")
    );
    let told = tell(VerifyMode::Report, END + 1).unwrap();
    assert!(
        told.message
            .ends_with(&format!("expired at T{END}; renew it on the upstream"))
    );
    assert_eq!(
        tell(VerifyMode::None, END + 1),
        None,
        "any certificate is accepted"
    );
    assert_eq!(tell(VerifyMode::Full, END - 100 * DAY), None);
    assert_eq!(
        peer_expiry(&upstream(VerifyMode::Full), &[], &warnings, END),
        None
    );
}
