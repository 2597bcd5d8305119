//! Certificates that the gateway gets by itself, from an authority that checks everything; and what strangers find while it
//! does.
#![cfg(feature = "acme")]

mod authority;
mod client;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use belvo_gateway::standin::Certificates;
use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::vocabulary::{Gateway, LINK, Place, text};
use authority::Authority;
use client::{acme_handshake, answer_to, answer_to_hello};

const NAME: &str = "gateway.localhost.test";

/// Belvo is 127.0.0.7; the authority and everybody else come from 127.0.0.1.
fn place() -> (Place, Authority) {
    let place = Place::new().with_tls().allowing("127.0.0.7");
    let authority =
        Authority::start(Certificates::create(&place.path("authority")).expect("an authority"));
    let place = place.with_acme(NAME, &authority.directory());
    // The certificates come from the authority's own root, not from the place's.
    fs::copy(authority.ca_file(), place.certificates().ca_file()).expect("a root");
    (place, authority)
}

fn start<'a>(place: &'a Place, authority: &Authority) -> Gateway<'a> {
    let gateway = place.start();
    authority.looks_at(gateway.address);
    gateway
}

fn until(what: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 20 s");
}

/// What a webhook from Belvo over verified TLS is answered.
fn answer(gateway: &Gateway<'_>) -> Option<u16> {
    let sender = gateway.sender().from([127, 0, 0, 7].into()).named(NAME);
    let webhook = historical_update(Resource::Accounts, LINK, 2);
    sender
        .send(webhook.as_bytes())
        .ok()
        .map(|reply| reply.status)
}

fn file(place: &Place, authority: &Authority, name: &str) -> std::path::PathBuf {
    let host = authority
        .directory()
        .replace("https://", "")
        .replace("/directory", "");
    place
        .state()
        .join("acme")
        .join(host.replace(':', "_"))
        .join(name)
}

#[test]
fn a_gateway_without_a_certificate_gets_one_on_its_own_port_and_serves() {
    let (place, authority) = place();
    authority.script(|script| script.holds = true);
    let gateway = start(&place, &authority);
    assert_eq!(answer(&gateway), None);
    authority.script(|script| script.holds = false);
    place.until_logged(&["has issued a certificate for", NAME]);
    until(|| answer(&gateway) == Some(200));
    assert_eq!(authority.wrong(), [""; 0]);
    for name in ["account.json", &format!("{NAME}.pem")] {
        let path = file(&place, &authority, name);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(
        place.column::<String>("SELECT kind FROM attention WHERE kind LIKE 'certificate-%'"),
        [""; 0]
    );
    gateway.stop();

    // It is kept: a restart asks for nothing.
    let gateway = start(&place, &authority);
    assert_eq!(answer(&gateway), Some(200));
    assert_eq!(authority.orders(), 1);
}

#[test]
fn while_a_challenge_is_open_its_handshake_is_all_that_a_stranger_gets() {
    let (place, authority) = place();
    authority.script(|script| script.holds = true);
    let gateway = start(&place, &authority);
    let address = gateway.address;
    until(|| authority.is_asked_to_look());

    let (_, after) = acme_handshake(address, NAME).expect("the handshake of a challenge");
    assert_eq!(after, b"");
    for protocols in [
        &[][..],
        &["http/1.1"],
        &["acme-tls/1", "http/1.1"],
        &["http/1.1", "acme-tls/1"],
    ] {
        assert_eq!(
            answer_to_hello(address, NAME, protocols),
            b"",
            "{protocols:?}"
        );
    }
    assert_eq!(
        answer_to_hello(address, "another.example.com", &["acme-tls/1"]),
        b""
    );
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0x16; 9_000],
    ] {
        assert_eq!(answer_to(address, bytes), b"");
    }

    // Two who say nothing take both turns, for a short time; Belvo is served meanwhile by the next certificate.
    let silent: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(address).expect("a connection"))
        .collect();
    until(|| acme_handshake(address, NAME).is_err());
    until(|| acme_handshake(address, NAME).is_ok());
    drop(silent);

    authority.script(|script| script.holds = false);
    until(|| answer(&gateway) == Some(200));
    assert!(acme_handshake(address, NAME).is_err());
    assert_eq!(answer_to_hello(address, NAME, &["acme-tls/1"]), b"");
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 1);
    assert_eq!(authority.wrong(), [""; 0]);
}

#[test]
fn a_certificate_with_less_than_a_third_of_its_lifetime_left_is_renewed_and_served_meanwhile() {
    let (place, authority) = place();
    authority.script(|script| script.age_days = 61);
    let gateway = start(&place, &authority);
    until(|| answer(&gateway) == Some(200));
    gateway.stop();
    let before = fs::read(file(&place, &authority, &format!("{NAME}.pem"))).expect("a file");

    authority.script(|script| (script.age_days, script.holds) = (0, true));
    let gateway = start(&place, &authority);
    until(|| authority.is_asked_to_look());
    assert_eq!(answer(&gateway), Some(200));
    authority.script(|script| script.holds = false);
    // Until it is served, the old one is what is noted.
    let is_new = "SELECT value > 1000 * unixepoch('now', '80 days') FROM meta WHERE key = 'certificate_until'";
    place.until(is_new, true);
    let after = fs::read(file(&place, &authority, &format!("{NAME}.pem"))).expect("a file");
    assert!(before != after);
    assert_eq!(answer(&gateway), Some(200));
    assert_eq!((authority.orders(), authority.wrong()), (2, Vec::new()));
}

#[test]
fn an_authority_that_finds_nothing_is_a_problem_that_ends_with_the_next_certificate() {
    let (place, authority) = place();
    authority.script(|script| script.refuses = true);
    let gateway = start(&place, &authority);
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'certificate-not-renewed'",
        1,
    );
    let said: String = place.value(
        "SELECT text || ' / ' || next_step FROM attention WHERE kind = 'certificate-not-renewed'",
    );
    for words in [
        NAME,
        "no such name",
        "port 443",
        "tried again after 15 minutes",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    gateway.stop();
    authority.script(|script| script.refuses = false);
    let gateway = start(&place, &authority);
    until(|| answer(&gateway) == Some(200));
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'certificate-not-renewed'",
        0,
    );
}

#[test]
fn an_authority_that_is_away_leaves_the_certificate_as_it_is() {
    let (place, authority) = place();
    let gateway = start(&place, &authority);
    until(|| answer(&gateway) == Some(200));
    gateway.stop();
    let place = place.with_acme(NAME, "https://localhost:1/directory");
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'certificate-not-renewed'",
        1,
    );
    assert!(file(&place, &authority, &format!("{NAME}.pem")).exists());
}

#[test]
fn a_mistake_in_what_is_to_be_asked_for_is_exit_78_with_what_was_expected() {
    for (domain, directory, expected) in [
        (
            "localhost",
            "https://localhost:1/",
            "tls.domain: \"localhost\" is no name",
        ),
        (
            "127.0.0.1",
            "https://localhost:1/",
            "tls.domain: \"127.0.0.1\" is no name",
        ),
        ("a..example.com", "https://localhost:1/", "tls.domain: "),
        (
            NAME,
            "http://localhost:1/",
            "tls.directory: \"http://localhost:1/\" is no https://",
        ),
    ] {
        let place = Place::new().with_acme(domain, directory);
        let output = place.fails_to_start();
        assert_eq!(output.status.code(), Some(78), "{domain} {directory}");
        let said = text(&output.stderr);
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
}
