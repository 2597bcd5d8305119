//! TLS for years: which versions are spoken, how a renewed certificate comes into use, and what a person is told in time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::system::tls::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::vocabulary::{Gateway, LINK, Place, skipped, text};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificate that a handshake of this version is answered with.
pub(crate) fn presented_over(
    place: &Place,
    gateway: &Gateway<'_>,
    version: &'static SupportedProtocolVersion,
) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(place.certificates().ca_file());
    roots
        .add(authority.expect("an authority"))
        .expect("an authority");
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(gateway.address).expect("a connection");
    let mut tls = StreamOwned::new(connection, stream);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("a handshake");
    let mut answer = String::new();
    tls.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let chain = tls.conn.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

/// The certificate that a handshake is answered with.
pub(crate) fn presented(place: &Place, gateway: &Gateway<'_>) -> CertificateDer<'static> {
    presented_over(place, gateway, &rustls::version::TLS13)
}

/// The first certificate of the file that the gateway reads.
pub(crate) fn in_the_file(place: &Place) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(place.path("tls/localhost.pem")).expect("a certificate")
}

/// What `problems` has open about certificates.
fn open_problems(place: &Place) -> Vec<String> {
    place.column("SELECT kind FROM problems WHERE closed_at IS NULL AND kind LIKE 'certificate-%'")
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert_eq!(
            presented_over(&place, &gateway, version),
            in_the_file(&place)
        );
    }
}

/// A hello of a client that knows no later version than this one: its version, 32 bytes of chance, no session, suites
/// that were common in its time and after, no compression, and curves for them.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let suites: &[u8] = &[
        0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f, 0x00, 0x0a,
    ];
    let groups: &[u8] = &[0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17];
    let signatures: &[u8] = &[0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1];
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, suites.len() as u8]);
    body.extend(suites);
    body.extend([1, 0]);
    body.extend([0, (groups.len() + signatures.len()) as u8]);
    body.extend(groups);
    body.extend(signatures);
    let mut record = vec![0x16, 3, 1, 0, body.len() as u8 + 4];
    record.extend([1, 0, 0, body.len() as u8]);
    record.extend(body);
    record
}

/// The first record that such a hello is answered with.
fn answer_to(gateway: &Gateway<'_>, version: [u8; 2]) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    stream.write_all(&hello(version)).expect("a hello");
    let mut record = vec![0; 7];
    stream.read_exact(&mut record).expect("a record");
    record
}

#[test]
fn older_versions_than_1_2_are_refused_with_the_alert_that_says_so() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const FATAL_PROTOCOL_VERSION: [u8; 2] = [2, 70];
    let place = Place::new().with_tls();
    let gateway = place.start();
    // SSL 3, TLS 1.0, TLS 1.1.
    for version in [[3, 0], [3, 1], [3, 2]] {
        let record = answer_to(&gateway, version);
        assert_eq!(
            (record[0], &record[5..]),
            (ALERT, &FATAL_PROTOCOL_VERSION[..]),
            "{version:?}"
        );
    }
    assert_eq!(answer_to(&gateway, [3, 3])[0], HANDSHAKE);
}

#[test]
fn a_renewed_certificate_is_served_within_seconds_and_open_connections_stay() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let before = presented(&place, &gateway);
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    place.until(
        "SELECT count(*) FROM meta WHERE key = 'certificate_until'",
        1,
    );
    place
        .certificates()
        .issue("localhost")
        .expect("a certificate");
    let renewed = in_the_file(&place);
    assert_ne!(before, renewed);
    let begun = Instant::now();
    while presented(&place, &gateway) != renewed {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", place.log());
        std::thread::sleep(Duration::from_millis(200));
        let webhook = historical_update(Resource::Accounts, LINK, 2);
        let reply = connection.send(webhook.as_bytes()).expect("an answer");
        assert_eq!(reply.status, 200);
    }
    place.until_logged(&["was changed and is used from now on", "localhost.pem"]);
    assert_eq!(open_problems(&place), [""; 0]);
}

#[test]
fn the_end_of_a_certificate_is_a_problem_in_time_and_is_over_when_it_is_renewed() {
    let place = Place::new().with_tls_until(SystemTime::now() + DAY * 20);
    let gateway = place.start();
    place.until(
        "SELECT kind FROM problems WHERE closed_at IS NULL AND text LIKE '%should have been renewed%'",
        "certificate-expiring".to_owned(),
    );
    let status = text(&place.reads("status", &[]).stdout);
    assert!(
        status.contains("certificate") && status.contains("valid until 20"),
        "{status}"
    );
    gateway.stop();

    let ended = SystemTime::now() - DAY;
    place
        .certificates()
        .issue_until("localhost", ended)
        .expect("a certificate");
    let check = text(&place.orders("check", &[]).stdout);
    assert!(check.contains("EXPIRED on 20"), "{check}");
    let gateway = place.start();
    place.until(
        "SELECT severity FROM problems WHERE kind = 'certificate-expired' AND closed_at IS NULL",
        1,
    );
    assert_eq!(open_problems(&place), ["certificate-expired"]);
    gateway.stop();

    place
        .certificates()
        .issue("localhost")
        .expect("a certificate");
    let check = text(&place.orders("check", &[]).stdout);
    assert!(check.contains("localhost.pem, valid until "), "{check}");
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM problems WHERE closed_at IS NULL AND kind LIKE 'certificate-%'",
        0,
    );
}

#[test]
fn a_box_whose_clock_is_in_1970_serves_and_raises_no_alarm_about_days() {
    let ended = SystemTime::now() - DAY;
    let place = Place::new().with_tls_until(ended).on_a_bad_disk();
    place.break_disk("clock-not-set");
    let gateway = place.start();
    place.until(
        "SELECT count(*) FROM meta WHERE key = 'certificate_until'",
        1,
    );
    let since: i64 = place.value("SELECT coalesce(max(since_at), 0) FROM problems");
    assert!(since < 1_000_000, "the clock is set: {since}");
    assert_eq!(open_problems(&place), [""; 0]);
    gateway.stop();
    place.mend_disk("clock-not-set");
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'certificate-expired' AND closed_at IS NULL",
        1,
    );
}

#[test]
fn openssl_agrees_about_versions_and_protocol() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let connect = |version: &str| {
        std::process::Command::new("openssl")
            .args([
                "s_client",
                "-alpn",
                "http/1.1,h2",
                "-cipher",
                "DEFAULT@SECLEVEL=0",
                version,
            ])
            .arg("-CAfile")
            .arg(place.certificates().ca_file())
            .arg("-connect")
            .arg(gateway.address.to_string())
            .stdin(std::process::Stdio::null())
            .output()
    };
    for (version, expected) in [
        ("-tls1_1", "no peer certificate available"),
        ("-tls1_2", "Verify return code: 0 (ok)"),
        ("-tls1_3", "ALPN protocol: http/1.1"),
    ] {
        let Ok(output) = connect(version) else {
            skipped("there is no openssl");
            return;
        };
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains(expected), "{version}: {said}");
    }
}
