//! A card that forgets and flips bits: what is found, what is kept, and what is brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use rusqlite::Connection;
use serde_json::Value;

use crate::vocabulary::{LINK, Place, text};

/// A place that has received so many webhooks and is stopped.
fn used(count: usize) -> Place {
    let place = Place::new();
    take_in(&place, count);
    place
}

fn take_in(place: &Place, count: usize) {
    let gateway = place.start();
    for _ in 0..count {
        let webhook = historical_update(Resource::Accounts, LINK, 2);
        assert_eq!(gateway.answers(webhook), 200);
    }
    place.until("SELECT count(*) FROM events", count as i64);
    assert!(gateway.stop().0.success());
}

/// The file, open to do what nobody should.
fn opened(place: &Place) -> Connection {
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch("DROP TRIGGER journal_is_never_updated")
        .expect("no trigger");
    file
}

/// What `verify` finds, and its exit code.
fn verify(place: &Place) -> (Vec<String>, Option<i32>) {
    let output = place.reads("verify", &["--json"]);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    let findings = said["findings"].as_array().expect("findings");
    assert_eq!(said["sound"], Value::Bool(findings.is_empty()));
    let what = findings.iter().map(|finding| {
        assert_ne!(finding["next_step"], "");
        finding["what"].as_str().expect("a sentence").to_owned()
    });
    (what.collect(), output.status.code())
}

#[test]
fn verify_finds_nothing_in_a_file_that_is_in_use() {
    let place = used(3);
    assert_eq!(verify(&place), (vec![], Some(0)));
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Owners, LINK, 2)),
        200
    );
    let output = place.reads("verify", &[]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(
        said.contains("4 webhooks were compared\neverything is as it should be"),
        "{said}"
    );
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_flipped_bit_in_any_column_of_a_stored_webhook_is_found() {
    for flip in [
        "received_at = received_at + 1",
        "clock_trusted = 1 - clock_trusted",
        "boot = boot + 1",
        "since_boot = since_boot + 1",
        "peer = '127.0.0.3'",
        "checksum = checksum + 1",
        "body = replace(body, '2', '3')",
        "body = CAST(x'ff' || body AS TEXT)",
    ] {
        let place = used(2);
        opened(&place)
            .execute_batch(&format!("UPDATE journal SET {flip} WHERE seq = 1"))
            .expect("a flip");
        let found = vec!["webhook 1 differs from its checksum".to_owned()];
        assert_eq!(verify(&place), (found, Some(1)), "{flip}");
    }
}

#[test]
fn verify_names_what_breaks_an_invariant_with_the_next_step() {
    for (broken, found) in [
        (
            "DELETE FROM events WHERE seq = 1",
            "webhook 1 was passed over by planning",
        ),
        (
            "UPDATE work SET wanted = 9",
            "work number 1 was asked for by a webhook that never came",
        ),
        (
            "INSERT INTO events (seq, action) VALUES (9, 'probe')",
            "webhook 9 was planned and never came",
        ),
        (
            "INSERT INTO objects VALUES ('weather', 'a', 'l', 'no json', 0, 0, 1, NULL, NULL)",
            "object in row 1 is unreadable",
        ),
        (
            "CREATE VIEW mine AS SELECT * FROM yours",
            "the view mine cannot be read: no such table: main.yours",
        ),
    ] {
        let place = used(2);
        opened(&place).execute_batch(broken).expect("a breach");
        assert_eq!(verify(&place), (vec![found.to_owned()], Some(1)));
    }
}

#[test]
fn an_emptied_webhook_has_the_checksum_of_an_emptied_one_and_no_other_is_taken() {
    let place = used(2);
    let done = place.reads("erase", &["--link", LINK, "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(
        place.column::<String>("SELECT DISTINCT body FROM journal"),
        [""]
    );
    assert_eq!(verify(&place), (vec![], Some(0)));
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    for change in [
        "body = 'x'",
        "checksum = 0",
        "received_at = 0",
        "peer = 'x'",
    ] {
        let refused = file.execute_batch(&format!("UPDATE journal SET {change}"));
        let refused = refused.expect_err(change).to_string();
        assert!(
            refused.contains("a journal row is never updated"),
            "{refused}"
        );
    }
}

/// Webhooks that a used place has received, each of another link.
const WEBHOOKS: usize = 300;

fn link(number: usize) -> String {
    format!("16f68516-bcbc-4cf7-b815-{number:012}")
}

/// A place with webhooks that were planned, and objects; then its gateway is killed, so that there is a WAL.
fn in_use() -> Place {
    let place = Place::new();
    let gateway = place.start();
    gateway.takes_in(WEBHOOKS, |number| {
        historical_update(Resource::Accounts, &link(number), 2)
    });
    place.until("SELECT count(*) FROM events", WEBHOOKS as i64);
    gateway.kill();
    place
}

/// The same, with everything in the file itself.
fn stopped() -> Place {
    let place = in_use();
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO objects SELECT 'accounts', 'object ' || i, 'a link', '{\"id\": ' || i || '}', 1, 1, 1, NULL, NULL FROM n;
         PRAGMA wal_checkpoint(TRUNCATE)",
    )
    .expect("objects");
    place
}

type Bytes = Vec<u8>;

/// A way to damage a file: its name, where, and what it does to the bytes.
struct Harm {
    name: &'static str,
    place: fn() -> Place,
    harm: fn(&Place),
    /// At least so many of [`WEBHOOKS`] are brought back.
    webhooks: usize,
}

fn rewrite(place: &Place, file: &str, change: impl FnOnce(&mut Bytes)) {
    let path = place.state().join(file);
    let mut bytes = fs::read(&path).expect("bytes");
    change(&mut bytes);
    fs::write(path, bytes).expect("a damaged file");
}

const PAGE: usize = 2048;

/// The page at which the tree of a table begins.
fn root(place: &Place, table: &str) -> usize {
    let page: i64 = place.value(&format!(
        "SELECT rootpage FROM sqlite_schema WHERE name = '{table}'"
    ));
    (page as usize - 1) * PAGE
}

fn statements(place: &Place, sql: &str) {
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch(sql).expect("a harm");
}

/// Something else's database, in this directory.
fn foreign(place: &Place) {
    fs::remove_file(place.state().join("gateway.db")).expect("a file");
    statements(
        place,
        "PRAGMA journal_mode = WAL; CREATE TABLE photos (x); INSERT INTO photos VALUES (1)",
    );
}

const HARMS: &[Harm] = &[
    Harm {
        name: "it is not a database",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes.fill(b'x')),
        webhooks: 0,
    },
    Harm {
        name: "its header is overwritten",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes[..100].fill(0xA5)),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "a bit of its header is flipped",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes[16] ^= 0x40),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "its first page is zeros",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes[..PAGE].fill(0)),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "half of it is gone",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes.truncate(bytes.len() / 2)),
        webhooks: 1,
    },
    Harm {
        name: "nearly all of it is gone",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes.truncate(1_000)),
        webhooks: 0,
    },
    Harm {
        name: "its last page is gone",
        place: stopped,
        harm: |place| {
            rewrite(place, "gateway.db", |bytes| {
                bytes.truncate(bytes.len() - PAGE)
            })
        },
        webhooks: WEBHOOKS - 20,
    },
    Harm {
        name: "half of a page is gone at its end",
        place: stopped,
        harm: |place| {
            rewrite(place, "gateway.db", |bytes| {
                bytes.truncate(bytes.len() - PAGE / 2)
            })
        },
        webhooks: WEBHOOKS - 20,
    },
    Harm {
        name: "the page above all webhooks is zeros",
        place: stopped,
        harm: |place| {
            let root = root(place, "journal");
            rewrite(place, "gateway.db", |bytes| {
                bytes[root..root + PAGE].fill(0)
            });
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "bits of the page above all webhooks are flipped",
        place: stopped,
        harm: |place| {
            let root = root(place, "journal");
            rewrite(place, "gateway.db", |bytes| bytes[root] ^= 0x10);
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "a page of an index is garbage",
        place: stopped,
        harm: |place| {
            let root = root(place, "events_by_link");
            rewrite(place, "gateway.db", |bytes| {
                bytes[root..root + 64].fill(0x77)
            });
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "its schema is garbage",
        place: stopped,
        harm: |place| {
            statements(
                place,
                "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE (' WHERE name = 'work'",
            );
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "a table points to a page that is not there",
        place: stopped,
        harm: |place| {
            statements(
                place,
                "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'journal'",
            );
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "a table is missing",
        place: stopped,
        harm: |place| statements(place, "DROP TABLE events"),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "a column is missing",
        place: stopped,
        harm: |place| {
            statements(
                place,
                "DROP VIEW link_status; DROP VIEW freshness; ALTER TABLE work RENAME COLUMN page_size TO bytes",
            )
        },
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "it is another program's",
        place: stopped,
        harm: foreign,
        webhooks: 0,
    },
    Harm {
        name: "it is empty",
        place: stopped,
        harm: |place| rewrite(place, "gateway.db", Vec::clear),
        webhooks: 0,
    },
    Harm {
        name: "it is empty and its WAL is not",
        place: in_use,
        harm: |place| rewrite(place, "gateway.db", Vec::clear),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "it is gone and its WAL is not",
        place: in_use,
        harm: |place| fs::remove_file(place.state().join("gateway.db")).expect("a file"),
        webhooks: WEBHOOKS,
    },
    Harm {
        name: "it is a directory",
        place: stopped,
        harm: |place| {
            fs::remove_file(place.state().join("gateway.db")).expect("a file");
            fs::create_dir(place.state().join("gateway.db")).expect("a directory");
        },
        webhooks: 0,
    },
    Harm {
        name: "its WAL is that of another file",
        place: in_use,
        harm: |place| {
            let other = Place::new();
            fs::write(other.state().join("gateway.db"), "").expect("a file");
            statements(
                &other,
                "PRAGMA journal_mode = WAL; CREATE TABLE photos (x); INSERT INTO photos VALUES (1)",
            );
            let file = Connection::open(other.state().join("gateway.db")).expect("a file");
            file.execute_batch("INSERT INTO photos VALUES (2)")
                .expect("a row");
            let wal = fs::read(other.state().join("gateway.db-wal")).expect("a WAL");
            fs::write(place.state().join("gateway.db-wal"), wal).expect("a WAL");
        },
        webhooks: 0,
    },
    Harm {
        name: "the file is zeros and its WAL is whole",
        place: in_use,
        harm: |place| rewrite(place, "gateway.db", |bytes| bytes.fill(0)),
        webhooks: WEBHOOKS,
    },
];

/// A gateway that was killed with everything in its WAL, of webhooks that came one by one.
fn one_by_one() -> Place {
    let place = Place::new();
    let gateway = place.start();
    for number in 0..40 {
        let webhook = historical_update(Resource::Accounts, &link(number), 2);
        assert_eq!(gateway.answers(webhook), 200);
    }
    gateway.kill();
    place
}

/// How far it is written: it has its size beforehand.
fn written(wal: &Bytes) -> usize {
    wal.iter().rposition(|byte| *byte != 0).expect("a byte") + 1
}

/// A way to damage a WAL, and how many of its webhooks are brought back.
type WalHarm = (&'static str, fn(&mut Bytes), i64);

#[test]
fn a_damaged_wal_is_kept_and_the_webhooks_in_it_are_brought_back() {
    let harms: [WalHarm; 4] = [
        (
            "a bit in the middle is flipped",
            |wal| {
                let at = written(wal) / 3;
                wal[at] ^= 1
            },
            39,
        ),
        ("its header is garbage", |wal| wal[..32].fill(0xA5), 40),
        (
            "a page in it is zeros",
            |wal| {
                let at = 32 + 20 * (24 + PAGE);
                wal[at..at + 24 + PAGE].fill(0)
            },
            30,
        ),
        ("its end is garbage", |wal| wal.extend([0xA5; 10_000]), 40),
    ];
    for (name, harm, webhooks) in harms {
        let place = one_by_one();
        rewrite(&place, "gateway.db-wal", harm);
        let before = fs::read(place.state().join("gateway.db-wal")).expect("a WAL");
        let begun = Instant::now();
        let gateway = place.start();
        let webhook = historical_update(Resource::Owners, LINK, 2);
        assert_eq!(gateway.answers(webhook), 200, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{name}");
        let kept = contents(&place, "gateway.db.damaged-");
        let is_hidden = !name.contains("end");
        assert_eq!(kept.len(), usize::from(is_hidden), "{name}");
        assert!(kept.values().all(|wal| *wal == before), "{name}");
        if is_hidden {
            place.until(SALVAGED, "over".to_owned());
            let open = "SELECT count(*) FROM attention WHERE kind = 'file-damaged'";
            assert_eq!(place.value::<i64>(open), 1, "{name}");
        }
        let found = "SELECT count(*) FROM journal WHERE peer <> 'salvage'";
        let found = place.value::<i64>(found);
        assert!(found > webhooks, "{name}: {found}");
        place.until("SELECT count(*) FROM inbox WHERE action IS NULL", 0);
        assert_eq!(verify(&place), (vec![], Some(0)), "{name}");
    }
}

#[test]
fn a_power_cut_in_the_last_commit_of_the_wal_is_no_damage() {
    let place = one_by_one();
    // What comes after a flip in the last frames was never answered.
    rewrite(&place, "gateway.db-wal", |wal| {
        let at = written(wal) - PAGE / 2;
        wal[at] ^= 1;
    });
    let _gateway = place.start();
    assert!(contents(&place, "gateway.db.damaged-").is_empty());
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM attention WHERE kind = 'file-damaged'"),
        0
    );
}

/// What is in the state directory under the file's names, by content.
fn contents(place: &Place, beginning: &str) -> BTreeMap<String, Bytes> {
    let entries = fs::read_dir(place.state()).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    names
        .map(|name| name.expect("UTF-8"))
        .filter(|name| name.starts_with(beginning) && !name.ends_with("-shm"))
        .filter_map(|name| Some((name.clone(), fs::read(place.state().join(name)).ok()?)))
        .collect()
}

#[test]
fn a_damaged_file_is_kept_and_a_fresh_one_serves_within_two_seconds() {
    for Harm {
        name,
        place,
        harm,
        webhooks,
    } in HARMS
    {
        let place = place();
        harm(&place);
        let before = contents(&place, "gateway.db");
        let begun = Instant::now();
        let gateway = place.start();
        let webhook = historical_update(Resource::Owners, LINK, 2);
        assert_eq!(gateway.answers(webhook), 200, "{name}");
        let after = begun.elapsed();
        println!("{name}: 200 after {after:?}");
        assert!(after < Duration::from_secs(2), "{name}: {after:?}");
        let kept: Vec<_> = contents(&place, "gateway.db.damaged-")
            .into_values()
            .collect();
        for (file, bytes) in before {
            assert!(kept.contains(&bytes), "{name}: {file} is not what it was");
        }
        place.until(
            "SELECT count(*) FROM attention WHERE kind = 'file-damaged' AND severity = 2
                AND next_step LIKE 'belvo-gateway reconcile%gateway.db.damaged-%'",
            1,
        );
        let found = place.value::<i64>("SELECT count(*) FROM journal WHERE seq < 1000000");
        assert!(found as usize >= *webhooks, "{name}: {found}");
        assert_eq!(
            place.value::<i64>("SELECT count(*) FROM inbox WHERE seq > 1000000"),
            1,
            "{name}"
        );
        place.until("SELECT count(*) FROM inbox WHERE action IS NULL", 0);
        assert_eq!(verify(&place), (vec![], Some(0)), "{name}");
        assert!(gateway.stop().0.success());
    }
}

/// Empties the index of what is due, which SQLite's quick check does not notice.
fn empty_an_index(place: &Place) {
    let root = root(place, "work_by_due");
    rewrite(place, "gateway.db", |bytes| {
        bytes[root..root + PAGE].fill(0);
        bytes[root..root + 8].copy_from_slice(&[0x0A, 0, 0, 0, 0, (PAGE >> 8) as u8, 0, 0]);
    });
}

#[test]
fn damage_that_shows_in_use_ends_the_gateway_and_the_next_start_sets_the_file_aside() {
    let place = used(3);
    empty_an_index(&place);
    let mut gateway = place.start();
    // Planning it touches the index.
    let answer = gateway.answers(historical_update(Resource::Accounts, LINK, 2));
    assert_eq!(answer, 200);
    assert!(!gateway.ended().success());
    place.until_logged(&["ending, so that the service manager starts the gateway afresh"]);
    drop(gateway);
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'file-damaged'",
        1,
    );
    place.until(
        "SELECT count(*) FROM inbox WHERE seq <= 4 AND action = 'fetch'",
        4,
    );
    assert_eq!(verify(&place), (vec![], Some(0)));
    assert!(!place.state().join("damaged").exists());
}

#[test]
fn damage_that_a_start_does_not_find_is_believed_the_second_time_it_shows() {
    let place = used(3);
    fs::write(place.state().join("damaged"), "a row was unreadable").expect("a note");
    place.start().stop();
    assert!(contents(&place, "gateway.db.damaged-").is_empty());
    // As a gateway notes it that was started since.
    fs::write(place.state().join("damaged"), "again: a row was unreadable").expect("a note");
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'file-damaged' AND text LIKE '%: a row was unreadable.%'",
        1,
    );
    place.until(
        "SELECT count(*) FROM inbox WHERE seq <= 3 AND action = 'fetch'",
        3,
    );
}

#[test]
fn verify_has_a_damaged_file_set_aside_when_it_is_told_to() {
    let place = used(3);
    empty_an_index(&place);
    let (findings, code) = verify(&place);
    assert_eq!(code, Some(1));
    assert_eq!(findings, ["row 1 missing from index work_by_due"]);
    place.reads("verify", &["--set-aside"]);
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'file-damaged'",
        1,
    );
    assert_eq!(verify(&place), (vec![], Some(0)));
}

#[test]
fn a_flipped_bit_in_a_new_webhook_is_a_problem_after_a_start_and_the_file_stays() {
    let place = used(3);
    opened(&place)
        .execute_batch("UPDATE journal SET body = replace(body, '2', '3') WHERE seq = 2")
        .expect("a flip");
    let _gateway = place.start();
    place.until(
        "SELECT text FROM attention WHERE kind = 'webhook-damaged' AND next_step LIKE '%belvo-gateway events show%'",
        "webhook 2 differs from its checksum".to_owned(),
    );
    assert!(contents(&place, "gateway.db.damaged-").is_empty());
}

/// A place with this many webhooks and objects in many pages, each with a mark of its own, and the marks of those pages.
fn large(webhooks: usize, objects: usize) -> Place {
    let place = Place::new();
    let gateway = place.start();
    gateway.takes_in(webhooks, |number| {
        let webhook = historical_update(Resource::Accounts, &link(number % 50), 2);
        webhook.replacen('{', &format!(r#"{{"mark":"<webhook {number}>","#), 1)
    });
    place.until("SELECT count(*) FROM events", webhooks as i64);
    assert!(gateway.stop().0.success());
    statements(
        &place,
        &format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {objects})
             INSERT INTO objects SELECT 'accounts', 'id ' || i, 'a link',
                    '{{\"mark\": \"<object ' || i || '>\", \"more\": \"' || hex(zeroblob(i % 300)) || '\"}}', 1, 1, 1, NULL, NULL
               FROM n"
        ),
    );
    place
}

/// The marks in some bytes.
fn marks(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    let pieces = text.split('<').skip(1);
    pieces
        .filter_map(|piece| Some(piece.split_once('>')?.0.to_owned()))
        .filter(|mark| mark.starts_with("webhook ") || mark.starts_with("object "))
        .collect()
}

/// The marks that a gateway's file has rows for.
fn kept(place: &Place) -> BTreeSet<String> {
    let bodies = "SELECT body FROM journal UNION ALL SELECT body FROM objects";
    let bodies = place.column::<String>(bodies);
    bodies
        .iter()
        .flat_map(|body| marks(body.as_bytes()))
        .collect()
}

const SALVAGED: &str = "SELECT min(step) FROM salvages";

#[test]
fn ninety_nine_of_a_hundred_undamaged_rows_are_brought_back_from_a_file_with_every_twentieth_page_gone()
 {
    let place = large(2_000, 5_000);
    let (mut whole, mut pages) = (BTreeSet::new(), 0);
    rewrite(&place, "gateway.db", |bytes| {
        for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
            pages += 1;
            match number % 20 {
                // Zeros, garbage, and single bits by turns.
                7 => match number % 3 {
                    0 => page.fill(0),
                    1 => page.fill(0xD5),
                    _ => page.iter_mut().step_by(61).for_each(|byte| *byte ^= 0x08),
                },
                _ => whole.extend(marks(page)),
            }
        }
    });
    assert!(
        pages > 300 && whole.len() > 6_000,
        "{pages} {}",
        whole.len()
    );
    let _gateway = place.start();
    place.until(SALVAGED, "over".to_owned());
    let kept = kept(&place);
    let back = whole.intersection(&kept).count();
    assert!(back * 100 >= whole.len() * 99, "{back} of {}", whole.len());
    let text: String = place.value("SELECT text FROM attention WHERE kind = 'file-damaged'");
    assert!(text.contains("places in it could not be read"), "{text}");
    assert_eq!(verify(&place), (vec![], Some(0)));
}

#[test]
fn a_salvage_goes_on_after_each_kill_and_counts_each_row_once() {
    let place = large(500, 10_000);
    rewrite(&place, "gateway.db", |bytes| bytes[..100].fill(0));
    let mut kills = 0;
    for at in [500, 3_000, 6_000, 9_000] {
        let gateway = place.start();
        let far = format!("SELECT max(copied >= {at} OR step = 'over') FROM salvages");
        place.until(&far, true);
        kills += i32::from(place.value::<String>(SALVAGED) != "over");
        gateway.kill();
    }
    assert!(kills >= 2, "it was never interrupted");
    let _gateway = place.start();
    place.until(SALVAGED, "over".to_owned());
    assert_eq!(kept(&place).len(), 10_500);
    assert_eq!(
        place.column::<i64>(
            "SELECT webhooks FROM salvages UNION ALL SELECT unreadable FROM salvages"
        ),
        [500, 0]
    );
}

#[test]
fn what_was_erased_stays_erased_and_what_was_not_planned_is_planned() {
    let place = used(2);
    let done = place.reads("erase", &["--link", LINK, "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let gateway = place.start();
    let other = link(1);
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, &other, 2)),
        200
    );
    place.until("SELECT count(*) FROM events", 3);
    gateway.stop();
    // Not even the row is there that says so, and the newest webhook was not planned.
    statements(
        &place,
        "DELETE FROM links; DELETE FROM events WHERE seq = 3; DELETE FROM work; UPDATE meta SET value = 2 WHERE key = 'planned_to'",
    );
    rewrite(&place, "gateway.db", |bytes| bytes[..100].fill(0));
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Owners, LINK, 2)),
        200
    );
    place.until(SALVAGED, "over".to_owned());
    place.until("SELECT count(*) FROM inbox WHERE action IS NULL", 0);
    assert_eq!(
        place.column::<String>("SELECT action FROM inbox ORDER BY seq"),
        ["erased", "erased", "fetch", "probe", "erased"]
    );
    assert_eq!(place.column::<String>("SELECT link_id FROM work"), [other]);
    assert_eq!(verify(&place), (vec![], Some(0)));
}

#[test]
fn what_is_erased_while_rows_of_it_are_still_to_come_does_not_come_back() {
    let place = Place::new().on_a_bad_disk();
    place.say_free(200);
    take_in(&place, 2);
    let plain = LINK.replace('-', "").to_uppercase();
    statements(
        &place,
        &format!(
            "INSERT INTO problems (kind, subject, severity, since_at, last_at, text, next_step, evidence, closed_at) VALUES
               ('link-blocked', 'link {LINK}', 2, 1, 1, 'its user has to', 'ask', NULL, NULL),
               ('fetch-failed', 'accounts of link {LINK}', 2, 1, 1, 'not found', 'ask', NULL, 1),
               ('trouble', '', 1, 1, 1, 'GET /api/links/{LINK}/ fails', 'see', NULL, NULL),
               ('unreadable-body', '127.0.0.1', 2, 1, 1, 'no JSON', 'see', CAST('x{plain}' AS BLOB), NULL),
               ('link-blocked', 'link {}', 2, 1, 1, 'its user has to', 'ask', NULL, NULL);
             INSERT INTO objects VALUES ('accounts', 'an id', '{LINK}', '{{\"id\": 1}}', 1, 1, 1, NULL, NULL);
             DELETE FROM events WHERE seq = 2",
            link(1)
        ),
    );
    rewrite(&place, "gateway.db", |bytes| bytes[..100].fill(0));
    place.say_free(30);
    let gateway = place.start();
    place.until(SALVAGED, "content".to_owned());
    let done = place.orders("erase", &["--link", LINK, "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    place.say_free(200);
    place.until(SALVAGED, "over".to_owned());
    assert_eq!(
        place.column::<String>(
            "SELECT subject FROM problems WHERE kind IN ('link-blocked', 'fetch-failed', 'trouble', 'unreadable-body') ORDER BY subject"
        ),
        ["", "127.0.0.1", &format!("link {}", link(1))]
    );
    for column in ["text", "subject", "coalesce(evidence, '')"] {
        let named = format!(
            "SELECT count(*) FROM problems WHERE replace(lower(CAST({column} AS TEXT)), '-', '') LIKE '%{}%'",
            plain.to_lowercase()
        );
        assert_eq!(place.value::<i64>(&named), 0, "{column}");
    }
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 0);
    assert_eq!(
        place.column::<String>("SELECT action || body FROM inbox ORDER BY seq"),
        ["erased", "erased", "probe"]
    );
    assert_eq!(verify(&place), (vec![], Some(0)));
    drop(gateway);
}

#[test]
fn a_webhook_that_was_copied_before_its_event_is_erased_with_its_link() {
    let place = used(2);
    // As in the middle of a salvage.
    statements(
        &place,
        "DELETE FROM events WHERE seq = 1;
         INSERT INTO salvages (file, at, why, newest_seq, step) VALUES ('gateway.db.damaged-1', 1, 'it was', 2, 'content')",
    );
    let done = place.reads("erase", &["--link", LINK, "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(
        place.column::<String>("SELECT action || body FROM inbox ORDER BY seq"),
        ["erased", "erased"]
    );
    let bytes = fs::read(place.state().join("gateway.db")).expect("a file");
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        !text.contains("historical_update\""),
        "it can still be read"
    );
}

#[test]
fn the_problem_is_over_when_the_damaged_file_is_removed() {
    let place = used(1);
    rewrite(&place, "gateway.db", |bytes| bytes[..100].fill(0));
    let gateway = place.start();
    place.until(SALVAGED, "over".to_owned());
    let open = "SELECT count(*) FROM attention WHERE kind = 'file-damaged'";
    assert_eq!(place.value::<i64>(open), 1);
    for file in contents(&place, "gateway.db.damaged-").keys() {
        fs::remove_file(place.state().join(file)).expect("a file");
    }
    gateway.stop();
    let _gateway = place.start();
    place.until(open, 0);
}

#[test]
fn what_only_cannot_be_used_now_is_no_damage() {
    let place = used(1);
    let refused = |why: &str| {
        let said = text(&place.fails_to_start().stderr);
        assert!(said.contains(why), "{said}");
        // Only by their names: who reads the file gives up the locks that this process has on it.
        let names = fs::read_dir(place.state()).expect("a directory");
        let mut names = names.map(|entry| entry.expect("an entry").file_name());
        assert!(!names.any(|name| name.to_string_lossy().contains(".damaged-")));
    };
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; SELECT 1 FROM meta")
        .expect("a lock");
    refused("another program holds the file");
    drop(file);
    let newer =
        "PRAGMA user_version = 1000; UPDATE meta SET value = 1000 WHERE key = 'oldest_reader'";
    statements(&place, newer);
    refused("written by a newer version");
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 1);
}

#[test]
fn who_reads_a_damaged_file_is_told_what_the_gateway_does_about_it() {
    let place = stopped();
    for table in ["journal", "problems"] {
        let root = root(&place, table);
        rewrite(&place, "gateway.db", |bytes| {
            bytes[root..root + 100].fill(0x33)
        });
    }
    for command in ["status", "events list", "problems"] {
        let said = text(&place.reads(command, &[]).stderr);
        let told = said.contains("belvo-gateway verify --set-aside");
        assert!(told, "{command}: {said}");
    }
    rewrite(&place, "gateway.db", |bytes| bytes[..100].fill(0x33));
    let said = text(&place.reads("status", &[]).stderr);
    assert!(
        said.contains("When the gateway is started it keeps the file"),
        "{said}"
    );
    let (findings, code) = verify(&place);
    assert_eq!((findings.len(), code), (1, Some(1)));
}

#[test]
fn a_salvage_waits_until_the_disk_has_room() {
    let place = Place::new().on_a_bad_disk();
    place.say_free(200);
    take_in(&place, 3);
    rewrite(&place, "gateway.db", |bytes| bytes[..PAGE].fill(0));
    place.say_free(30);
    let gateway = place.start();
    place.until(SALVAGED, "content".to_owned());
    for count in 1..=2 {
        let refused = gateway.answers(historical_update(Resource::Owners, LINK, 2));
        assert_eq!(refused, 503);
        let counted = "SELECT value FROM meta WHERE key = 'refused.unavailable'";
        place.until(counted, count);
    }
    let saved = "SELECT count(*) FROM journal WHERE peer <> 'salvage'";
    assert_eq!(place.value::<i64>(saved), 0);
    place.say_free(200);
    place.until(SALVAGED, "over".to_owned());
    assert_eq!(place.value::<i64>(saved), 3);
}
