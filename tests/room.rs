//! A disk that runs full: webhooks are refused early and quickly, what was kept is worked on, commands work, and with room
//! everything is as before, without anybody's help.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::When;
use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::vocabulary::{Gateway, LINK, Place, belvo, skipped, text};

const MIB: u64 = 1024 * 1024;
/// How long webhooks may still be refused when there is room again: a second, and more on a machine that others use.
const AGAIN: Duration = Duration::from_secs(3);
/// How long the slowest in a hundred 503s may take: a tenth of a second, and more on such a machine ...
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// ... and how often that is measured.
const REFUSALS: usize = 300;

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

/// Sends webhooks until one is answered so.
fn until_answered(gateway: &Gateway<'_>, status: u16) {
    let begun = Instant::now();
    while gateway.answers(webhook()) != status {
        assert!(begun.elapsed() < Duration::from_secs(20), "never {status}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for something on the disk.
fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends webhooks that are all refused, and says how long the slowest in a hundred waited.
fn refused_within(gateway: &Gateway<'_>) -> Duration {
    let sender = gateway.sender();
    let mut waited: Vec<_> = (0..REFUSALS)
        .map(|_| {
            let reply = sender.send(webhook().as_bytes()).expect("an answer");
            assert_eq!(reply.status, 503);
            let head = reply.head.to_lowercase();
            assert!(head.contains("retry-after: "), "{head}");
            reply.answered
        })
        .collect();
    waited.sort();
    let (half, slowest) = (waited[REFUSALS / 2], waited[REFUSALS * 99 / 100]);
    println!("503 within {half:?}, 99 of 100 within {slowest:?}");
    slowest
}

#[test]
fn below_the_floor_webhooks_are_refused_at_once_and_with_room_they_are_taken_within_a_second() {
    let place = Place::new().on_a_bad_disk();
    place.say_free(65);
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    place.say_free(63);
    until_answered(&gateway, 503);
    let kept: i64 = place.value("SELECT count(*) FROM journal");
    let slowest = refused_within(&gateway);
    assert!(slowest <= REFUSED_WITHIN, "{slowest:?}");
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM journal"),
        kept,
        "what was refused was journalled"
    );
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'disk-low' AND text LIKE '%6_ MiB%' AND next_step LIKE '%72 MiB%'",
        1,
    );

    place.say_free(71);
    thread::sleep(AGAIN);
    assert_eq!(gateway.answers(webhook()), 503, "it goes to and fro");
    // 72, and what the file still grows by when its WAL is copied.
    place.say_free(73);
    let begun = Instant::now();
    until_answered(&gateway, 200);
    assert!(begun.elapsed() <= AGAIN, "{:?}", begun.elapsed());
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'disk-low' AND closed_at IS NOT NULL",
        1,
    );
}

#[test]
fn a_disk_that_is_full_at_the_start_is_noticed_before_the_first_webhook() {
    let place = Place::new()
        .on_a_bad_disk()
        .storing("disk-floor-mib = 100\nballast-mib = 0");
    place.say_free(99);
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 503);
    assert!(!place.state().join("ballast").exists());
    place.say_free(113);
    let begun = Instant::now();
    until_answered(&gateway, 200);
    assert!(begun.elapsed() <= AGAIN, "{:?}", begun.elapsed());
}

#[test]
fn while_webhooks_are_refused_what_was_kept_is_fetched_and_commands_work() {
    let belvo = belvo();
    let mut house = Household::new(9, 2);
    let transactions = house.transactions(2_300);
    belvo.put("/api/transactions/", house.link(), transactions);
    let place = Place::new().on_a_bad_disk().fetching_from(&belvo);
    let gateway = place.start();
    let held = belvo.hold(When::path("/api/transactions/").page(2));
    let webhook = historical_update(Resource::Transactions, house.link(), 2);
    assert_eq!(gateway.answers(&webhook), 200);
    assert!(held.wait_reached(Duration::from_secs(20)));
    place.say_free(10);
    until_answered(&gateway, 503);
    held.release();
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 2_300);

    place.until("SELECT count(*) FROM attention WHERE kind = 'disk-low'", 1);
    for command in ["status", "events list"] {
        let output = place.reads(command, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let problems = text(&place.reads("problems", &[]).stdout);
    assert!(problems.contains("disk-low"), "{problems}");
    let erase = place.orders("erase", &["--link", house.link(), "--yes"]);
    assert!(erase.status.success(), "{}", text(&erase.stderr));
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 0);
    assert_eq!(gateway.answers(&webhook), 503);
}

#[test]
fn the_ballast_is_given_up_where_nothing_can_be_written_and_put_back_later() {
    let place = Place::new().on_a_bad_disk();
    let ballast = place.state().join("ballast");
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    assert_eq!(fs::metadata(&ballast).expect("a ballast").len(), 8 * MIB);
    place.break_disk("full-but-for-ballast");
    until_answered(&gateway, 503);
    until(|| !ballast.exists());
    // Only the ballast has made room, and the disk says that it has enough: there is no telling but by trying.
    place.until("SELECT count(*) FROM attention WHERE kind = 'disk-low'", 1);
    until_answered(&gateway, 200);
    place.mend_disk("full-but-for-ballast");
    until(|| ballast.exists());
    assert_eq!(gateway.answers(webhook()), 200);
    place.until("SELECT count(*) FROM attention WHERE kind = 'disk-low'", 0);
}

#[test]
fn a_full_disk_does_not_end_the_gateway() {
    let place = Place::new()
        .on_a_bad_disk()
        .with_environment("WATCHDOG_USEC", "400000");
    let gateway = place.start();
    place.break_disk("full");
    until_answered(&gateway, 503);
    assert!(gateway.tells("WATCHDOG=1", Duration::from_secs(10)));
    place.mend_disk("full");
    let begun = Instant::now();
    until_answered(&gateway, 200);
    assert!(begun.elapsed() <= AGAIN, "{:?}", begun.elapsed());
}

/// A small ext4 as the state directory of a place.
pub(crate) struct Small {
    mounted: PathBuf,
}

impl Small {
    pub(crate) fn mount(place: &Place, mib: u64) -> Option<Self> {
        let image = place.path("image");
        File::create(&image)
            .and_then(|file| file.set_len(mib * MIB))
            .expect("an image");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096"])
            .arg(&image)
            .status()
            .is_ok_and(|status| status.success());
        made.then(|| Self::mount_again(place)).flatten()
    }

    /// The one that was made for this place.
    pub(crate) fn mount_again(place: &Place) -> Option<Self> {
        let mounted = place.state();
        Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(place.path("image"))
            .arg(&mounted)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
            .then_some(Self { mounted })
    }

    /// Leaves no room for anybody.
    fn fill(&self) {
        let mut file = File::create(self.mounted.join("other")).expect("a file");
        let mut piece = vec![0x5a; MIB as usize];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.mounted.join("other")).expect("a file");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        for _ in 0..100 {
            let unmounted = Command::new("umount").arg(&self.mounted).status();
            if unmounted.is_ok_and(|status| status.success()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn on_a_small_disk_that_is_full_to_the_last_block_everything_goes_on_without_help() {
    let place = Place::new();
    let Some(disk) = Small::mount(&place, 96) else {
        return skipped("no ext4 can be mounted here");
    };
    let ballast = place.state().join("ballast");
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    assert!(ballast.exists());
    disk.fill();
    until_answered(&gateway, 503);
    let slowest = refused_within(&gateway);
    assert!(slowest <= REFUSED_WITHIN, "{slowest:?}");
    place.until("SELECT count(*) FROM attention WHERE kind = 'disk-low'", 1);
    let erase = place.orders("erase", &["--link", LINK, "--yes"]);
    assert!(erase.status.success(), "{}", text(&erase.stderr));

    gateway.kill();
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 503);
    assert!(place.reads("status", &[]).status.success());
    let (ended, _) = gateway.stop();
    assert!(ended.success());
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 503);

    disk.make_room();
    let begun = Instant::now();
    until_answered(&gateway, 200);
    println!("200 again after {:?}", begun.elapsed());
    assert!(begun.elapsed() <= AGAIN, "{:?}", begun.elapsed());
    place.until("SELECT count(*) FROM attention WHERE kind = 'disk-low'", 0);
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
    drop(gateway);
}

#[test]
fn on_a_small_disk_more_webhooks_are_taken_in_time_than_it_holds_and_none_is_lost() {
    let place = Place::new();
    let Some(_disk) = Small::mount(&place, 64) else {
        return skipped("no ext4 can be mounted here");
    };
    let gateway = place.start();
    // 120 MB through 64 MiB.
    let (mut taken, mut refused) = (0, 0);
    let begun = Instant::now();
    while taken < 1_200 {
        let webhook = format!(
            r#"{{"webhook_id":"{taken}","webhook_type":"PAYMENT_INTENTS","webhook_code":"STATUS_UPDATE","object_id":"o","data":{{"pad":"{}"}}}}"#,
            "x".repeat(100_000)
        );
        match gateway.answers(&webhook) {
            200 => taken += 1,
            503 => {
                refused += 1;
                thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{other}"),
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{taken} taken, {refused} refused; {}",
            place.log()
        );
    }
    println!("{taken} taken, {refused} refused, {:?}", begun.elapsed());
    place.until("SELECT count(*) >= 1200 FROM events", true);
    // What was refused while it was being written may be there all the same, and once more when it was sent again.
    assert_eq!(
        place.value::<i64>("SELECT count(DISTINCT webhook_id) FROM events"),
        1_200
    );
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
    drop(gateway);
}
