//! Starting and stopping: what a wrong configuration or state directory is told, and how the gateway ends.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use rusqlite::Connection;

use crate::vocabulary::{LINK, PATH, PROGRAM, Place, rest, skipped, text};

fn check(text: &str) -> (Option<i32>, String) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("c.toml");
    fs::write(&file, text).expect("a configuration");
    let output = Command::new(PROGRAM)
        .args(["check", "--config"])
        .arg(&file)
        .env_remove("STATE_DIRECTORY")
        .output();
    let output = output.expect("the program runs");
    let said =
        crate::vocabulary::text(&output.stderr).replace(&file.display().to_string(), "c.toml");
    (output.status.code(), said)
}

const GOOD: &str = "environment = \"sandbox\"\nstate-directory = \"/tmp\"\n[listen]\naddress = [\"127.0.0.1:0\"]\n[tls]\nmode = \"off\"\n";

#[test]
fn every_kind_of_mistake_in_a_configuration_is_exit_78_with_file_line_key_and_what_was_expected() {
    let mistakes = [
        (
            GOOD.replace("sandbox", "development"),
            "c.toml:1: environment: ",
        ),
        (
            GOOD.replace("state-directory", "state-dir"),
            "c.toml:2: state-dir: unknown key; did you mean state-directory?",
        ),
        (
            GOOD.replace("[tls]", "[tsl]"),
            "c.toml:5: tsl: unknown key; known here: environment, ",
        ),
        (
            GOOD.replace("\"127.0.0.1:0\"", "\"127.0.0.1\""),
            "c.toml:4: listen.address: \"127.0.0.1\" is no address with a port",
        ),
        (
            GOOD.replace("[tls]", "allow = [\"3.130.254\"]\n[tls]"),
            "c.toml:5: listen.allow: \"3.130.254\" is neither an address",
        ),
        (
            GOOD.replace("[tls]", "allow = []\n[tls]"),
            "c.toml:5: listen.allow: must not be empty",
        ),
        (
            GOOD.replace("[tls]", "path = \"hook\"\n[tls]"),
            "c.toml:5: listen.path: \"hook\" is no path",
        ),
        (
            GOOD.replace("\"off\"", "\"on\""),
            "c.toml:6: tls.mode: \"on\" is not known",
        ),
        (
            GOOD.replace("\"off\"", "\"files\""),
            "tls.certificate: is missing",
        ),
        (
            GOOD.replace("127.0.0.1:0", "0.0.0.0:0"),
            "c.toml:6: tls.mode: \"off\" needs loopback addresses",
        ),
        (
            format!("{GOOD}[api]\nburst = \"many\"\n"),
            "c.toml:8: api.burst: invalid type",
        ),
        (
            format!("{GOOD}[api]\nrequests-per-second = -1\n"),
            "c.toml:8: api.requests-per-second: ",
        ),
        (
            format!("{GOOD}[api]\nbase-url = \"http://api.belvo.com\"\n"),
            "c.toml:8: api.base-url: ",
        ),
        (
            format!("{GOOD}[api]\nsecret-id-file = \"/nowhere\"\n"),
            "api.secret-password-file: is missing",
        ),
        (
            format!("{GOOD}[api]\nca-file = \"/nowhere/ca.pem\"\n"),
            "[api] ca-file: cannot read /nowhere/ca.pem: No such file",
        ),
        (
            GOOD.replace("[tls]", "authorization-file = \"/nowhere/a\"\n[tls]"),
            "authorization: cannot read /nowhere/a",
        ),
        (GOOD.replace("= \"sandbox\"", "= sandbox"), "c.toml:1: "),
    ];
    for (mistake, expected) in mistakes {
        let (code, said) = check(&mistake);
        assert_eq!(code, Some(78), "{mistake}\n{said}");
        assert!(said.contains(expected), "{mistake}\n{said}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_exit_78() {
    let output = Command::new(PROGRAM)
        .args(["serve", "--config", "/nowhere/c.toml"])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("cannot read /nowhere/c.toml: No such file"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_key_that_everybody_may_read_is_refused() {
    let place = Place::new().with_authorization();
    let file = place.path("authorization");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    let output = place.fails_to_start();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("chmod o-rwx"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_certificate_that_does_not_fit_its_key_is_refused() {
    let place = Place::new().with_tls();
    let other =
        belvo_gateway::standin::Certificates::create(&place.path("other")).expect("an authority");
    let other = other.issue("localhost").expect("a certificate");
    let config = fs::read_to_string(place.configured()).expect("a configuration");
    let key = config
        .lines()
        .find_map(|line| line.strip_prefix("key = "))
        .expect("a key");
    let wrong = config.replace(key, &format!("{:?}", other.key));
    fs::write(place.path("wrong.toml"), wrong).expect("a configuration");
    let output = Command::new(PROGRAM)
        .args(["check", "--config"])
        .arg(place.path("wrong.toml"))
        .output()
        .expect("a run");
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("cannot be used together"),
        "{}",
        text(&output.stderr)
    );
}

fn assert_fails(output: &Output, expected: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in expected {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
}

#[test]
fn a_missing_state_directory_says_how_to_make_it() {
    let place = Place::new();
    fs::remove_dir(place.state()).expect("an empty directory");
    assert_fails(
        &place.fails_to_start(),
        &["does not exist", "install -d -m 0750"],
    );
}

#[test]
fn a_state_directory_in_use_says_by_whom() {
    let place = Place::new();
    let _gateway = place.start();
    assert_fails(
        &place.fails_to_start(),
        &["is in use by another gateway", "systemctl stop"],
    );
}

#[test]
fn a_read_only_state_directory_says_what_it_must_be() {
    let place = Place::new();
    if fs::metadata(place.state()).expect("a directory").uid() == 0 {
        skipped("root may write to read-only directories");
        return;
    }
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o550)).expect("a mode");
    let output = place.fails_to_start();
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o750)).expect("a mode");
    assert_fails(
        &output,
        &[
            "cannot write to the state directory",
            "must be on a writable file system",
        ],
    );
}

#[test]
fn a_file_from_a_newer_program_is_left_alone_unless_it_says_otherwise() {
    let place = Place::new();
    place.start().stop();
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch("PRAGMA user_version = 1000")
        .expect("a version");
    place.start().stop();
    file.execute_batch("UPDATE meta SET value = 1000 WHERE key = 'oldest_reader'")
        .expect("a version");
    assert_fails(
        &place.fails_to_start(),
        &["written by a newer version", "schema 1000"],
    );
}

#[test]
fn an_address_in_use_says_what_to_look_at() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let place = Place::new();
    let config = fs::read_to_string(place.configured()).expect("a configuration");
    fs::write(
        place.path("taken.toml"),
        config.replace("127.0.0.1:0", &address.to_string()),
    )
    .expect("a configuration");
    let output = Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(place.path("taken.toml"))
        .output()
        .expect("a run");
    assert_fails(
        &output,
        &["cannot listen on 127.0.0.1:", "is another program using it"],
    );
}

#[test]
fn the_file_can_be_read_by_its_group_and_by_nobody_else() {
    let place = Place::new();
    place.start().stop();
    let mode = fs::metadata(place.state().join("gateway.db"))
        .expect("a file")
        .mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn a_commit_is_durable_by_what_the_file_says_of_itself() {
    let place = Place::new();
    let _gateway = place.start();
    assert_eq!(place.value::<String>("PRAGMA journal_mode"), "wal");
}

#[test]
fn without_keys_everything_is_kept_and_the_gateway_says_what_it_waits_for() {
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
    place.until("SELECT kind FROM attention", "api-keys-missing".to_owned());
    place.until("SELECT state FROM freshness", "waiting".to_owned());
}

#[test]
fn sigterm_ends_within_a_second_also_with_idle_connections_open() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    let webhook = historical_update(Resource::Accounts, LINK, 2);
    assert_eq!(
        connection
            .send(webhook.as_bytes())
            .expect("an answer")
            .status,
        200
    );
    let _silent = TcpStream::connect(gateway.address).expect("a connection");
    place.until_logged(&["webhook kept"]);
    let (status, after) = gateway.stop();
    assert!(status.success(), "{status}; {}", place.log());
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[test]
fn what_is_being_answered_when_sigterm_comes_is_answered() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    place.break_disk("hold-sync");
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    let body = historical_update(Resource::Accounts, LINK, 2);
    write!(
        stream,
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a request");
    until_syncing(&place);
    gateway.signal("TERM");
    place.until_logged(&["stopping on SIGTERM"]);
    place.mend_disk("hold-sync");
    assert!(text(&rest(stream)).starts_with("HTTP/1.1 200 "));
    let mut gateway = gateway;
    assert!(gateway.ended().success());
    assert_eq!(place.value::<String>("SELECT body FROM journal"), body);
}

/// Waits until a sync is being held.
fn until_syncing(place: &Place) {
    for _ in 0..2_000 {
        let log = fs::read_to_string(place.path("faults.log")).unwrap_or_default();
        if log
            .lines()
            .last()
            .is_some_and(|line| line.contains("sync-begins"))
        {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing is being synced");
}

#[test]
fn a_start_on_a_full_disk_answers_503_until_there_is_room() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    let webhook = historical_update(Resource::Accounts, LINK, 2);
    for _ in 0..20 {
        assert_eq!(gateway.answers(&webhook), 200);
    }
    gateway.kill();
    place.break_disk("full");
    let gateway = place.start();
    // The WAL that was left has room for some.
    let acknowledged = (0..10_000)
        .take_while(|_| gateway.answers(&webhook) == 200)
        .count();
    place.until_logged(&["database or disk is full; make room on the file system"]);
    place.mend_disk("full");
    let begun = Instant::now();
    while gateway.answers(&webhook) != 200 {}
    println!("200 again after {:?}", begun.elapsed());
    let kept: i64 = place.value("SELECT count(*) FROM journal");
    assert!(
        kept > 20 + acknowledged as i64,
        "{kept}, {acknowledged} acknowledged"
    );
}

#[test]
fn the_watchdog_is_fed_by_passes_through_the_writer_and_not_while_the_disk_hangs() {
    let place = Place::new()
        .on_a_bad_disk()
        .with_environment("WATCHDOG_USEC", "400000");
    let gateway = place.start();
    assert!(gateway.tells("WATCHDOG=1", Duration::from_secs(10)));
    place.break_disk("hold-sync");
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        503
    );
    assert!(!gateway.tells("WATCHDOG=1", Duration::from_secs(1)));
    place.mend_disk("hold-sync");
    assert!(gateway.tells("WATCHDOG=1", Duration::from_secs(10)));
}

#[test]
fn the_shipped_unit_starts_what_this_program_understands() {
    let unit = include_str!("../systemd/belvo-gateway.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .expect("a command");
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/belvo-gateway"));
    let arguments: Vec<_> = words
        .map(|word| {
            if word.starts_with('/') {
                "/nowhere"
            } else {
                word
            }
        })
        .collect();
    let output = Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    assert!(unit.contains("RestartPreventExitStatus=78"));
}
