//! The order of things: the row is written, the sync has returned, then the first byte of the answer leaves.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::vocabulary::{Gateway, LINK, Place, skipped};

const REQUESTS: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Written,
    Synced,
    Sent,
}

fn send_some(gateway: &Gateway<'_>) {
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    for _ in 0..REQUESTS {
        let webhook = historical_update(Resource::Accounts, LINK, 2);
        assert_eq!(
            connection
                .send(webhook.as_bytes())
                .expect("an answer")
                .status,
            200
        );
    }
}

/// Between any two answers the journal was written and then synced.
fn assert_order(did: &[Did]) {
    let answers: Vec<_> = did
        .split_inclusive(|did| *did == Did::Sent)
        .filter(|part| part.ends_with(&[Did::Sent]))
        .collect();
    assert_eq!(answers.len(), REQUESTS, "{did:?}");
    for part in answers {
        let synced = part
            .iter()
            .rposition(|did| *did == Did::Synced)
            .unwrap_or_else(|| panic!("not synced: {part:?}"));
        assert!(
            part[..synced].contains(&Did::Written),
            "not written before the sync: {part:?}"
        );
    }
}

#[test]
fn the_row_is_written_and_synced_before_the_first_byte_of_the_answer() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    let before = std::fs::read_to_string(place.path("faults.log"))
        .expect("a log")
        .lines()
        .count();
    send_some(&gateway);
    let log = std::fs::read_to_string(place.path("faults.log")).expect("a log");
    let did: Vec<_> = log
        .lines()
        .skip(before)
        .filter_map(
            |line| match line.split(' ').skip(1).collect::<Vec<_>>()[..] {
                ["written", path, _] if path.ends_with("-wal") => Some(Did::Written),
                ["synced", path, "0"] if path.ends_with("-wal") => Some(Did::Synced),
                ["sends", "socket", _] => Some(Did::Sent),
                _ => None,
            },
        )
        .collect();
    assert_order(&did);
}

#[test]
fn after_a_failed_sync_the_file_is_made_whole_before_anything_is_answered_200() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    let webhook = historical_update(Resource::Accounts, LINK, 2);
    assert_eq!(gateway.answers(&webhook), 200);
    place.break_disk("fail-sync");
    assert_eq!(gateway.answers(&webhook), 503);
    place.mend_disk("fail-sync");
    while gateway.answers(&webhook) != 200 {}
    let log = std::fs::read_to_string(place.path("faults.log")).expect("a log");
    let since: Vec<_> = log
        .lines()
        .skip_while(|line| !line.contains("sync-failed"))
        .collect();
    let position = |what: &str| since.iter().rposition(|line| line.contains(what));
    // The kernel may have dropped pages of the WAL that it could not write, so they are in the file itself by now.
    let (file, answer) = (position("/gateway.db 0"), position("sends socket"));
    assert!(file.is_some() && file < answer, "{since:#?}");
}

#[test]
fn a_wal_that_may_have_a_hole_is_written_again_at_the_next_start_even_while_it_is_read() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    let webhook = historical_update(Resource::Accounts, LINK, 2);
    assert_eq!(gateway.answers(&webhook), 200);
    // A reader in the middle of something keeps the WAL from starting over.
    let reader = place.file();
    let begun = reader.execute_batch("BEGIN; SELECT count(*) FROM journal");
    begun.expect("a reader");
    assert_eq!(gateway.answers(&webhook), 200);
    place.break_disk("fail-sync");
    assert_eq!(gateway.answers(&webhook), 503);
    place.mend_disk("fail-sync");
    gateway.kill();
    let before = std::fs::read_to_string(place.path("faults.log"))
        .expect("a log")
        .lines()
        .count();
    let gateway = place.start();
    let log = std::fs::read_to_string(place.path("faults.log")).expect("a log");
    let since: Vec<_> = log.lines().skip(before).collect();
    let written = since
        .iter()
        .position(|line| line.contains(" written ") && line.contains("-wal "));
    let synced = since
        .iter()
        .rposition(|line| line.contains(" synced ") && line.ends_with("-wal 0"));
    assert!(written.is_some() && written < synced, "{since:#?}");
    assert_eq!(gateway.answers(&webhook), 200);
    drop(reader);
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn strace_sees_the_same_order() {
    let strace = Command::new("strace")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !strace.is_ok_and(|status| status.success()) {
        skipped(
            "strace is not installed; the order is tested by the_row_is_written_and_synced_...",
        );
        return;
    }
    let place = Place::new();
    let gateway = place.start();
    let output = place.path("strace");
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-e",
            "trace=pwrite64,fdatasync,fsync,sendto,write,writev",
            "-o",
        ])
        .arg(&output)
        .args(["-p", &gateway.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    if !attached(gateway.id()) {
        skipped("this user may not trace processes here");
        drop(strace.kill());
        drop(strace.wait());
        return;
    }
    send_some(&gateway);
    gateway.kill();
    drop(strace.wait());
    let trace = std::fs::read_to_string(output).expect("a trace");
    let did: Vec<_> = trace.lines().filter_map(seen).collect();
    assert_order(&did);
}

/// Whether every thread is traced, within a moment.
fn attached(id: u32) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let traced = std::fs::read_dir(format!("/proc/{id}/task"))
            .expect("a process")
            .flatten()
            .all(|task| {
                let status =
                    std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
                status.lines().any(|line| {
                    line.strip_prefix("TracerPid:")
                        .is_some_and(|tracer| tracer.trim() != "0")
                })
            });
        if traced {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// One line of strace: a call that has returned, or for an answer, one that begins.
fn seen(line: &str) -> Option<Did> {
    let wal = line.contains("-wal>");
    if line.contains("HTTP/1.1 200") {
        return Some(Did::Sent);
    }
    match line {
        _ if wal && line.contains("pwrite64(") => Some(Did::Written),
        _ if wal && line.contains("fdatasync(") && line.ends_with("= 0") => Some(Did::Synced),
        _ if line.contains("fdatasync resumed") && line.ends_with("= 0") => Some(Did::Synced),
        _ => None,
    }
}
