//! A card that takes nothing for a while: webhooks are answered 503 meanwhile, the gateway stays, and when the card is
//! well again it goes on by itself, with everything that it acknowledged.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::room::Small;
use crate::vocabulary::{Gateway, LINK, Place, skipped, text};

/// How long webhooks may still be refused when the card is well again: two seconds, and more on a machine that others use.
const AGAIN: Duration = Duration::from_secs(4);

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

/// Sends a webhook that must be refused, and told when to come again.
fn is_refused(gateway: &Gateway<'_>) {
    let sent = Instant::now();
    let reply = gateway.sender().send(webhook().as_bytes());
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 503);
    let head = reply.head.to_lowercase();
    assert!(head.contains("retry-after: "), "{head}");
    assert!(sent.elapsed() < Duration::from_secs(5));
}

/// Sends webhooks until one is taken, which must be soon.
fn is_taken_again(gateway: &Gateway<'_>, place: &Place) {
    let begun = Instant::now();
    while gateway.answers(webhook()) != 200 {
        assert!(begun.elapsed() <= AGAIN, "{}", place.log());
        thread::sleep(Duration::from_millis(20));
    }
    println!("200 again after {:?}", begun.elapsed());
}

#[test]
fn while_the_card_is_read_only_the_answer_is_503_and_afterwards_200_again() {
    let place = Place::new()
        .on_a_bad_disk()
        .with_environment("WATCHDOG_USEC", "400000");
    let gateway = place.start();
    for _ in 0..20 {
        assert_eq!(gateway.answers(webhook()), 200);
    }
    place.break_disk("read-only");
    for _ in 0..200 {
        is_refused(&gateway);
    }
    place.until_logged(&["ERROR", "nothing could be written", "Read-only file system"]);
    // A start afresh makes no card writable.
    assert!(gateway.tells("WATCHDOG=1", Duration::from_secs(10)));
    let status = place.reads("status", &[]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    place.mend_disk("read-only");
    is_taken_again(&gateway, &place);
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'storage-failing' AND text LIKE '%Read-only%' AND closed_at IS NOT NULL",
        1,
    );
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
    assert!(place.value::<i64>("SELECT count(*) FROM journal") >= 21);
}

#[test]
fn a_card_that_fails_is_a_problem_that_is_over_when_it_is_well() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    place.break_disk("fail-sync");
    is_refused(&gateway);
    place.mend_disk("fail-sync");
    is_taken_again(&gateway, &place);
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'storage-failing' AND text LIKE '%I/O error%'",
        1,
    );
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'storage-failing'",
        0,
    );
}

#[test]
fn a_start_while_the_card_is_read_only_says_what_to_do_and_the_next_one_serves() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    for _ in 0..20 {
        assert_eq!(gateway.answers(webhook()), 200);
    }
    gateway.kill();
    place.break_disk("read-only");
    let output = place.fails_to_start();
    // Any other code than 78, with which systemd starts it again.
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for words in ["is read-only", "see dmesg", "start the machine again"] {
        assert!(said.contains(words), "{said}");
    }
    place.mend_disk("read-only");
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 21);
}

/// Has the ext4 of a place take an error for its own, after which it takes nothing until it is mounted anew.
fn fail(place: &Place) -> bool {
    let source = Command::new("findmnt")
        .args(["-n", "-o", "SOURCE"])
        .arg(place.state())
        .output();
    let source = source
        .map(|output| text(&output.stdout))
        .unwrap_or_default();
    let device = source.trim().trim_start_matches("/dev/");
    // What is clean has to be written to anew, also in shared memory.
    let synced = Command::new("sync").arg("-f").arg(place.state()).status();
    assert!(synced.is_ok_and(|status| status.success()));
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
}

/// Mends it as a start of the machine does.
fn repair(place: &Place) {
    let repaired = Command::new("e2fsck")
        .args(["-p", "-f"])
        .arg(place.path("image"))
        .output()
        .expect("e2fsck");
    // 1 is mended, and 0 there was nothing to mend.
    assert!(repaired.status.code() <= Some(1), "{repaired:?}");
}

#[test]
fn on_a_small_disk_that_gives_up_nothing_is_acknowledged_any_more_and_nothing_is_lost() {
    let place = Place::new();
    let Some(disk) = Small::mount(&place, 64) else {
        return skipped("no ext4 can be mounted here");
    };
    let gateway = place.start();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for number in 0..400 {
        if number == 200 && !fail(&place) {
            return skipped("no error of ext4 can be caused here");
        }
        let webhook = format!(
            r#"{{"webhook_id":"{number}","webhook_type":"ACCOUNTS","webhook_code":"historical_update","link_id":"{LINK}"}}"#
        );
        match gateway.answers(&webhook) {
            200 => acknowledged.push(number.to_string()),
            _ => refused += 1,
        }
    }
    println!("{} acknowledged, {refused} refused", acknowledged.len());
    is_refused(&gateway);
    let status = place.reads("status", &[]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    gateway.kill();
    let output = place.fails_to_start();
    assert!(text(&output.stderr).contains("is read-only"));
    drop(disk);
    repair(&place);
    let _disk = Small::mount_again(&place).expect("a disk");
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    let kept: Vec<String> =
        place.column("SELECT coalesce(json_extract(body, '$.webhook_id'), '') FROM journal");
    for number in &acknowledged {
        assert!(kept.contains(number), "{number} was lost");
    }
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
    drop(gateway);
}
