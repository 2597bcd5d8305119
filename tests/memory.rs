//! The memory of the program at its worst: many large webhooks while the disk fails, stalls or is full, a large damaged
//! file that is brought back meanwhile, large objects, floods. What is promised holds for a release build, which is given
//! as `GATEWAY_PROGRAM`; without it nothing is tried, since any other build takes megabytes more for its code.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use rusqlite::Connection;

use crate::vocabulary::{Gateway, LINK, Place, belvo, skipped};

const MIB: u64 = 1024 * 1024;
/// The most memory that may be resident, in any fault.
const MIB_MAX: u64 = 24;
const CONNECTIONS: usize = 64;
const POURED: Duration = Duration::from_secs(3);

/// Whether there is a program whose memory means something.
fn is_given() -> bool {
    let given = std::env::var_os("GATEWAY_PROGRAM").is_some();
    if !given {
        skipped("no release build is given as GATEWAY_PROGRAM");
    }
    given
}

/// Says how much memory it took at most, which must not be too much.
fn within(gateway: &Gateway<'_>, what: &str) {
    let kib = gateway.peak_kib();
    println!("{what}: {:.1} MiB", kib as f64 / 1024.0);
    assert!(kib <= MIB_MAX * 1024, "{what}: {kib} KiB");
}

/// A webhook of 64 KiB, 128, ... up to 1 MiB, by its number.
fn large(number: usize) -> String {
    let bytes = (number % 16 + 1) * 64 * 1024 - 200;
    format!(
        r#"{{"webhook_id":"{number}","webhook_type":"PAYMENT_INTENTS","webhook_code":"STATUS_UPDATE","object_id":"o","data":{{"pad":"{}"}}}}"#,
        "x".repeat(bytes)
    )
}

/// Sends large webhooks over all connections at once for this long; says how many were answered 200 and otherwise.
fn pour(gateway: &Gateway<'_>, time: Duration) -> (u32, u32) {
    let begun = Instant::now();
    thread::scope(|scope| {
        let pouring: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                scope.spawn(move || {
                    let (mut taken, mut refused) = (0, 0);
                    let sender = gateway.sender();
                    let mut number = connection;
                    while begun.elapsed() < time {
                        match sender.send(large(number).as_bytes()) {
                            Ok(reply) if reply.status == 200 => taken += 1,
                            _ => refused += 1,
                        }
                        number += 1;
                    }
                    (taken, refused)
                })
            })
            .collect();
        let sums = pouring
            .into_iter()
            .map(|poured| poured.join().expect("a sender"));
        sums.fold((0, 0), |(a, b), (taken, refused)| (a + taken, b + refused))
    })
}

#[test]
fn many_large_webhooks_while_the_disk_fails_stalls_or_is_full_take_little_memory() {
    if !is_given() {
        return;
    }
    for fault in [
        "",
        "fail-sync",
        "hold-sync",
        "fail-write",
        "full",
        "read-only",
    ] {
        let place = Place::new().with_tls().on_a_bad_disk();
        let gateway = place.start();
        assert_eq!(gateway.answers(large(0)), 200);
        if !fault.is_empty() {
            place.break_disk(fault);
        }
        let during = pour(&gateway, POURED);
        if !fault.is_empty() {
            place.mend_disk(fault);
        }
        let after = pour(&gateway, POURED / 2);
        println!("{fault:?}: 200 and other during {during:?}, after {after:?}");
        within(
            &gateway,
            &format!("64 connections with up to 1 MiB each, {fault:?}"),
        );
    }
}

#[test]
fn a_large_damaged_file_is_brought_back_beside_the_intake_in_little_memory() {
    const ROWS: i64 = 400_000;
    if !is_given() {
        return;
    }
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
    gateway.stop();
    let path = place.state().join("gateway.db");
    let file = Connection::open(&path).expect("a file");
    file.execute_batch(&format!(
        "PRAGMA synchronous = OFF;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO objects SELECT 'transactions', 'id ' || i, 'a link ' || (i % 50),
                '{{\"id\": ' || i || ', \"more\": \"' || hex(zeroblob(175 + i % 50)) || '\"}}', 1, 1, 1, NULL, NULL FROM n;
         PRAGMA wal_checkpoint(TRUNCATE)"
    ))
    .expect("objects");
    drop(file);
    let bytes = fs::metadata(&path).expect("a file").len();
    assert!(bytes > 190 * MIB, "{bytes}");
    let mut head = fs::File::options().write(true).open(&path).expect("a file");
    head.write_all(&[0; 100]).expect("a damaged head");
    drop(head);

    let begun = Instant::now();
    let gateway = place.start();
    let sender = gateway.sender();
    let served = {
        assert_eq!(
            gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
            200
        );
        begun.elapsed()
    };
    let over = "SELECT min(step) = 'over' FROM salvages";
    let mut waited = Vec::new();
    let mut belvo = sender.connect().expect("a connection");
    let mut looked = Instant::now();
    loop {
        let sent = Instant::now();
        let webhook = historical_update(Resource::Accounts, LINK, 2);
        assert_eq!(
            belvo.send(webhook.as_bytes()).expect("an answer").status,
            200
        );
        waited.push(sent.elapsed());
        thread::sleep(Duration::from_millis(5));
        if looked.elapsed() > Duration::from_millis(500) {
            if place.value::<bool>(over) {
                break;
            }
            looked = Instant::now();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{}",
            place.log()
        );
    }
    let took = begun.elapsed() - served;
    waited.sort();
    let at = |percent: usize| waited[(waited.len() - 1) * percent / 100];
    println!(
        "{} MiB: served after {served:?}, {ROWS} rows in {took:?}, {:.0} rows/s; of {} webhooks beside it half within {:?}, 99 of 100 within {:?}, the slowest {:?}",
        bytes / MIB,
        ROWS as f64 / took.as_secs_f64(),
        waited.len(),
        at(50),
        at(99),
        at(100),
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), ROWS);
    within(
        &gateway,
        "a damaged file of 200 MiB, copied beside the intake",
    );
}

#[test]
fn a_thousand_objects_of_three_hundred_kilobytes_are_fetched_in_little_memory() {
    if !is_given() {
        return;
    }
    let belvo = belvo();
    let blob = "x".repeat(300_000);
    let other = LINK.replace('1', "2");
    for link in [LINK, &other] {
        let object = |id| format!(r#"{{"id":"{link}-{id}","link":"{link}","pdf":"{blob}"}}"#);
        let objects = (0..1_000).map(object).collect();
        belvo.put("/api/tax-returns/", link, objects);
    }
    let place = Place::new().with_tls().fetching_from(&belvo);
    let gateway = place.start();
    let until_done = |count: i64| {
        let done = "SELECT count(*) FROM work WHERE wanted <= fetched";
        place.until_within(done, count, Duration::from_secs(120));
    };
    gateway.answers(historical_update(Resource::TaxReturns, LINK, 1_000));
    until_done(1);
    within(&gateway, "a fetch of 1,000 objects of 300 KB");
    for link in [LINK, &other] {
        gateway.answers(historical_update(Resource::TaxReturns, link, 1_000));
    }
    until_done(2);
    within(&gateway, "two of them at once");
    for link in [LINK, &other] {
        gateway.answers(historical_update(Resource::TaxReturns, link, 1_000));
    }
    pour(&gateway, POURED);
    until_done(2);
    within(
        &gateway,
        "the same, beside 64 connections with up to 1 MiB each",
    );
}

#[test]
fn a_flood_of_connections_takes_little_memory() {
    if !is_given() {
        return;
    }
    let place = Place::new().allowing("127.0.0.1");
    let gateway = place.start();
    let stranger = gateway.sender().from([127, 0, 0, 9].into());
    // Half a request on each, with as much of a head and a body as it takes.
    let half = |number: usize| {
        let mut stream = TcpStream::connect(gateway.address).ok()?;
        let pad = "y".repeat(12_000);
        let head = format!(
            "POST /belvo/webhooks HTTP/1.1\r\nHost: x\r\nX-Pad: {pad}\r\nContent-Length: 1000000\r\n\r\n"
        );
        let body = vec![b' '; number % 8 * 64 * 1024];
        // It may be closed in between.
        drop(
            stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(&body)),
        );
        Some(stream)
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(stranger.send(b""))));
            scope.spawn(|| {
                let held: Vec<_> = (0..300).filter_map(half).collect();
                thread::sleep(Duration::from_secs(1));
                drop(held);
            });
        }
    });
    within(&gateway, "a flood of half requests and of strangers");
    let _ = pour(&gateway, POURED / 2);
    within(
        &gateway,
        "the same, and 64 connections with up to 1 MiB each after it",
    );
}
