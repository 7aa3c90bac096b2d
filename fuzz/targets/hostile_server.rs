//! A TLS server that breaks its own flights, sends noise, chains that are too long, and messages without end behind its
//! encryption, in pieces of any size. The handshake of the gateway ends with a reason that fits, or goes on; what it
//! stores and what it takes has a bound (`-rss_limit_mb`, `-malloc_limit_mb` and `-timeout` of fuzz/run see to that).
//!
//! The input is read byte by byte as what the server does; see [`Play`].
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use nuncio_model::{Failure, Reason, TlsSettings, VerifyMode};
use nuncio_tls::{ClientTls, Closed, EndpointTls, Handshake, process_established};
use rustls::ServerConnection;

#[path = "../peer/server.rs"]
mod server;
#[path = "../peer/settings.rs"]
mod settings;

use server::{Harm, Play};

/// Most that one peer sends in one run.
const MOST_SENT: usize = 1 << 20;
/// Of plaintext, more than the gateway asks rustls for at once.
const READ: usize = 16 << 10;

/// Shared by all runs, as it is by all connections to one endpoint: what peers make it keep adds up.
static ENDPOINTS: LazyLock<Vec<(Arc<TlsSettings>, EndpointTls)>> = LazyLock::new(|| {
    let modes = [VerifyMode::None, VerifyMode::Report, VerifyMode::Full];
    modes.into_iter().map(endpoint).collect()
});

fn endpoint(mode: VerifyMode) -> (Arc<TlsSettings>, EndpointTls) {
    let mut settings = settings::lenient();
    settings.verify.mode = mode;
    settings.verify.roots.bundle = Some(Arc::new(server::trusted()));
    let settings = Arc::new(settings);
    let tls = ClientTls::new(&settings).expect("settings that stand here");
    (settings, tls.endpoint())
}

fuzz_target!(|data: &[u8]| {
    let mut play = Play::new(data);
    settings::keep_roots();
    let (settings, endpoint) = &ENDPOINTS[play.choose(ENDPOINTS.len())];
    let mut server = play.server();
    let mut handshake = endpoint.start().expect("a hello");
    let step = play.step();
    let (mut sent, mut harmed) = (0, None);

    while handshake.is_handshaking() && sent < MOST_SENT {
        let mut flight = server::answer(&mut server, &hello(&mut handshake));
        let harm = play.harm(&mut flight);
        // Noise in a later flight is a record that makes no sense.
        harmed = harmed.or(harm.map(|harm| {
            if sent > 0 && harm == Harm::Noise {
                Harm::Other
            } else {
                harm
            }
        }));
        sent += flight.len();
        if let Err(failure) = feed(&mut handshake, &flight, step) {
            return judge(&handshake, &failure, harmed);
        }
        let ends = flight.is_empty() || matches!(harm, Some(Harm::Cut | Harm::CutAndMore));
        if ends && handshake.is_handshaking() {
            // Nothing more will come.
            let failure = handshake.closed(Closed::Eof, &[]);
            return judge(&handshake, &failure, harmed);
        }
    }
    if !handshake.is_handshaking() {
        established(handshake, server, &mut play, settings);
    }
});

/// What the gateway has to say.
fn hello(handshake: &mut Handshake) -> Vec<u8> {
    let mut bytes = Vec::new();
    while handshake.connection().wants_write() {
        handshake.connection().write_tls(&mut bytes).expect("memory");
    }
    bytes
}

/// Gives the gateway bytes, so many at once, until the session stands: what comes then is read by others.
fn feed(handshake: &mut Handshake, bytes: &[u8], step: usize) -> Result<(), Failure> {
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() && handshake.is_handshaking() {
            match handshake.read_tls(&mut piece) {
                // A peer that has taken its leave is not listened to.
                Ok(0) => return Err(handshake.closed(Closed::Eof, &[])),
                Ok(_) => {}
                Err(error) => return Err(handshake.closed(Closed::Io(error.kind()), &[])),
            }
            handshake.process()?;
        }
    }
    Ok(())
}

/// The reason is one that there may be before a session stands, and the one that there must be where what was done
/// leaves no choice.
fn judge(handshake: &Handshake, failure: &Failure, harmed: Option<Harm>) {
    readable(failure);
    let report = handshake.report_failed(
        failure,
        std::time::Duration::ZERO,
        std::time::SystemTime::UNIX_EPOCH,
    );
    assert_eq!(report.message, failure.message);
    if !handshake.is_handshaking() {
        return of_a_session(failure);
    }
    match (harmed, failure.reason) {
        (None | Some(Harm::Cut), Reason::NotTls) => panic!("nothing was wrong with what came: {failure:?}"),
        // Noise may look like SSL 2.0.
        (Some(Harm::Noise), Reason::NotTls | Reason::ProtocolVersion) => {}
        (Some(Harm::Noise), _) => panic!("noise is no TLS: {failure:?}"),
        (_, Reason::TlsConfigUnresolved | Reason::HandshakeTimeout) => {
            panic!("no server can say that: {failure:?}")
        }
        // Any other alert may stand in what was spoilt.
        (
            None | Some(Harm::Cut),
            Reason::UpstreamProtocolError | Reason::TlsProtocolError | Reason::RenegotiationUnsupported | Reason::ClientCertRejected,
        ) => panic!("no such thing was done: {failure:?}"),
        _ => {}
    }
}

/// The reason is one that there may be once a session stands.
fn of_a_session(failure: &Failure) {
    let reason = failure.reason;
    assert!(
        !matches!(reason, Reason::NotTls | Reason::ResetDuringHandshake),
        "{failure:?}"
    );
}

/// A sentence, as all messages are.
fn readable(failure: &Failure) {
    let message = &failure.message;
    assert!(
        !message.is_empty() && message.len() < 2000 && !message.ends_with('.'),
        "{message:?}"
    );
    assert!(!message.contains(['\n', '\r', '\0']), "{message:?}");
    let advises_cleartext = failure.remedy.contains("http://");
    assert!(!advises_cleartext || failure.reason == Reason::NotTls, "{failure:?}");
}

/// What comes behind the encryption.
fn established(handshake: Handshake, server: ServerConnection, play: &mut Play<'_>, settings: &TlsSettings) {
    let established = handshake.into_connection();
    let (mut connection, seen) = (established.connection, established.seen);
    let Some(mut sealer) = server::sealer(server) else {
        return;
    };
    let step = play.step();
    let mut sent = 0;
    while let Some(records) = play.records(&mut sealer).filter(|_| sent < MOST_SENT) {
        sent += records.len();
        for mut piece in records.chunks(step) {
            while !piece.is_empty() {
                let Ok(1..) = connection.read_tls(&mut piece) else {
                    return;
                };
                if let Err(failure) = process_established(&mut connection, &seen, settings) {
                    readable(&failure);
                    return of_a_session(&failure);
                }
                // What the gateway answers by itself has a bound as well.
                connection.write_tls(&mut std::io::sink()).expect("memory");
                let mut plaintext = [0; READ];
                // The end of the session is an error too.
                let _ = std::io::Read::read(&mut connection.reader(), &mut plaintext);
            }
        }
    }
}
