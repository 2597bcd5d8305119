//! What journald gets: the fields that `journalctl BELVO_LINK_ID=...` asks for, priorities, and nothing that is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::{Fault, StandIn, When};

use crate::vocabulary::{AUTHORIZATION, KEYS, LINK, Place, belvo, skipped};

/// Every field that a line may have, and what it is to whoever asks journald for it.
const FIELDS: &[(&str, &str)] = &[
    ("link_id", "the link a webhook or a fetch is about"),
    ("seq", "the number of the webhook in the journal"),
    ("first_seq", "of many webhooks in one line the first"),
    ("last_seq", "and the last"),
    ("webhooks", "and how many they are"),
    ("webhook_type", "as Belvo sent it"),
    ("webhook_code", "as Belvo sent it"),
    ("request_id", "Belvo's, of a webhook or of an answer"),
    ("resource", "what is fetched"),
    ("action", "what a webhook leads to"),
    ("error_class", "what follows from a failure"),
    ("error_code", "Belvo's word for it"),
    ("error", "why something could not be done"),
    ("problem", "the kind of a problem that came or went"),
    ("next_step", "what to do"),
    ("peer", "who sent a request"),
    ("reason", "why it was refused"),
    ("status", "how it was answered"),
    ("detail", "more about that"),
    ("bytes", "of a webhook"),
    ("on_disk_us", "from its first byte to the commit"),
    ("answered_us", "from its first byte to its answer"),
    ("seconds", "until something is tried again"),
    ("pages", "of a listing"),
    ("objects", "in it"),
    ("new", "of these"),
    ("changed", "of these"),
    ("agreed", "whether the listing agreed with its own count"),
];

/// Names that journald, or who asks it, would take for something else; and words for a link or webhook that we do not use.
const NOT_FIELDS: &[&str] = &[
    "message", "priority", "type", "code", "link", "class", "body",
];

/// One call of a log macro in src/.
pub(crate) struct Line {
    /// File and line.
    pub(crate) place: String,
    /// The macro.
    pub(crate) level: &'static str,
    /// The names of its fields.
    pub(crate) fields: Vec<String>,
    /// Its text, as it is written.
    pub(crate) text: String,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Every call of a log macro in src/, but for the stand-in's.
pub(crate) fn lines() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut lines) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src/") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let below = path.strip_prefix(&root).expect("below src/");
                let text = fs::read_to_string(&path).expect("a text");
                lines.extend(lines_of(below.to_str().expect("a plain name"), &text));
            }
        }
    }
    lines.retain(|line| !line.place.starts_with("standin/"));
    lines.sort_by(|one, other| one.place.cmp(&other.place));
    lines
}

fn lines_of(path: &str, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for level in LEVELS {
        for (at, found) in text.match_indices(&format!("{level}!(")) {
            let before = &text[..at];
            let code = before.rsplit('\n').next().unwrap_or_default();
            let is_word = before.ends_with(|sign: char| sign.is_alphanumeric() || sign == '_');
            if is_word || code.contains("//") {
                continue;
            }
            let arguments = arguments(&text[at + found.len()..]);
            let said = arguments.iter().position(|one| one.starts_with('"'));
            let said = said.unwrap_or_else(|| panic!("{path}: a line without a text"));
            lines.push(Line {
                place: format!("{path}:{}", before.lines().count()),
                level,
                fields: arguments[..said].iter().map(|one| field(one)).collect(),
                text: arguments[said].trim_matches('"').to_owned(),
            });
        }
    }
    lines
}

/// What stands between the commas of a call, to the end of it.
fn arguments(call: &str) -> Vec<String> {
    let (mut found, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0, false, false);
    for sign in call.chars() {
        let open = !quoted && "([{".contains(sign);
        let shut = !quoted && ")]}".contains(sign);
        quoted ^= sign == '"' && !escaped;
        escaped = quoted && sign == '\\' && !escaped;
        depth += i32::from(open) - i32::from(shut);
        match sign {
            _ if depth < 0 => break,
            ',' if depth == 0 && !quoted => found.push(String::new()),
            _ => found.last_mut().expect("one").push(sign),
        }
    }
    let trimmed = found.iter().map(|one| one.trim().to_owned());
    trimmed.filter(|one| !one.is_empty()).collect()
}

/// The name in `name = value`, `name`, `%name` and `?name`.
fn field(argument: &str) -> String {
    let name = argument.split('=').next().unwrap_or_default();
    let name = name.trim().trim_start_matches(['%', '?']);
    name.trim_start_matches("r#").to_owned()
}

#[test]
fn every_field_of_every_line_is_one_that_is_known() {
    let lines = lines();
    assert!(lines.len() > 25, "only {} lines were found", lines.len());
    let mut used = BTreeSet::new();
    for line in &lines {
        for field in &line.fields {
            assert!(
                FIELDS.iter().any(|(name, _)| name == field),
                "src/{} has the field {field}; take one of FIELDS, or give it a line there",
                line.place
            );
            used.insert(field.as_str());
        }
    }
    for (name, meaning) in FIELDS {
        assert!(used.contains(name), "no line has {name}, {meaning}");
        assert!(!NOT_FIELDS.contains(name), "{name} is not one of ours");
    }
}

#[test]
fn a_line_about_a_webhook_or_a_fetch_names_its_link_and_its_number() {
    let lines = lines();
    let begins = |text: &str| lines.iter().find(|line| line.text.starts_with(text));
    for (text, wanted) in [
        (
            "webhook planned: ",
            &["webhook_type", "webhook_code", "request_id"][..],
        ),
        ("a fetch failed: ", &["error_class", "request_id"][..]),
        ("fetched ", &["resource"][..]),
    ] {
        let line = begins(text).unwrap_or_else(|| panic!("no line begins with {text:?}"));
        for wanted in ["link_id", "seq"].iter().chain(wanted) {
            assert!(
                line.fields.iter().any(|field| field == wanted),
                "src/{} lacks {wanted}",
                line.place
            );
        }
    }
}

#[test]
fn what_a_call_says_is_read_as_it_is_written() {
    let text = "warn!(\n  %error, seq = a(1, 2), r#new = x,\n \"it, {error} (\\\"so\\\")\", 3\n); // info!(no)";
    let lines = lines_of("x.rs", text);
    let found: Vec<_> = lines.iter().map(|line| (line.level, &*line.text)).collect();
    assert_eq!(found[0], ("warn", "it, {error} (\\\"so\\\")"));
    assert_eq!(lines[0].fields, ["error", "seq", "new"]);
}

type Entry = BTreeMap<String, String>;

/// A stand-in for journald: a socket, and what comes there.
struct Journald {
    socket: UnixDatagram,
    _sockets: tempfile::TempDir,
    entries: Vec<Entry>,
}

/// A place whose gateway writes to a journald of ours; nothing where no mount namespace can be had.
fn under_journald(place: Place) -> Option<(Place, Journald)> {
    let probe = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/run",
        ])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        skipped("no mount namespace can be had, so journald's place cannot be taken");
        return None;
    }
    let sockets = tempfile::tempdir().expect("a directory");
    let socket = UnixDatagram::bind(sockets.path().join("socket")).expect("a socket");
    let log = File::create(place.path("log")).expect("a log");
    let log = log.metadata().expect("a file");
    let stream = format!("{}:{}", log.dev(), log.ino());
    let place = place
        .with_environment("JOURNAL_STREAM", stream)
        .under_journald(sockets.path());
    let journald = Journald {
        socket,
        _sockets: sockets,
        entries: Vec::new(),
    };
    Some((place, journald))
}

impl Journald {
    /// Waits for an entry with all of these fields.
    fn until(&mut self, wanted: &[(&str, &str)]) -> Entry {
        let fits = |entry: &Entry| {
            let has = |(name, value): &(&str, &str)| entry.get(*name).is_some_and(|it| it == value);
            wanted.iter().all(has)
        };
        if let Some(entry) = self.entries.iter().find(|entry| fits(entry)) {
            return entry.clone();
        }
        loop {
            let entry = self
                .next(Duration::from_secs(30))
                .unwrap_or_else(|| panic!("no entry with {wanted:?} in {:#?}", self.entries));
            if fits(&entry) {
                return entry;
            }
        }
    }

    fn next(&mut self, patience: Duration) -> Option<Entry> {
        let mut bytes = vec![0; 256 * 1024];
        self.socket
            .set_read_timeout(Some(patience))
            .expect("a timeout");
        loop {
            let length = self.socket.recv(&mut bytes).ok()?;
            // An empty one asks whether anybody is here.
            if length > 0 {
                let entry = entry(&bytes[..length]);
                self.entries.push(entry.clone());
                return Some(entry);
            }
        }
    }
}

/// An entry of journald's native protocol: `NAME=value`, or the name, a line feed, the length and the value.
fn entry(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&bytes[..end]).expect("a name");
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
                bytes = &rest[length + 1..];
                (
                    line,
                    String::from_utf8(rest[..length].to_vec()).expect("a text"),
                )
            }
        };
        entry.insert(name.to_owned(), value);
    }
    entry
}

/// A link with accounts at Belvo.
fn furnish(belvo: &StandIn) -> Household {
    let house = Household::new(6, 2);
    belvo.put("/api/accounts/", house.link(), house.accounts());
    belvo.put_link(&house.link_record());
    house
}

#[test]
fn journald_can_be_asked_for_a_link_a_webhook_and_its_request() {
    let belvo = belvo();
    let house = furnish(&belvo);
    let Some((place, mut journald)) = under_journald(Place::new().fetching_from(&belvo)) else {
        return;
    };
    let gateway = place.start();
    let webhook = historical_update(Resource::Accounts, house.link(), 2);
    assert_eq!(gateway.answers(&webhook), 200);
    let planned = journald.until(&[
        ("BELVO_LINK_ID", house.link()),
        ("BELVO_SEQ", "1"),
        ("BELVO_WEBHOOK_TYPE", "ACCOUNTS"),
        ("BELVO_WEBHOOK_CODE", "historical_update"),
        ("PRIORITY", "6"),
    ]);
    assert!(
        webhook.contains(&planned["BELVO_REQUEST_ID"]),
        "{planned:?}"
    );
    journald.until(&[
        ("BELVO_LINK_ID", house.link()),
        ("BELVO_SEQ", "1"),
        ("BELVO_RESOURCE", "accounts"),
        ("BELVO_AGREED", "true"),
        ("PRIORITY", "6"),
    ]);
}

#[test]
fn a_failed_fetch_is_a_warning_and_refused_keys_are_an_error_without_the_keys() {
    let belvo = belvo();
    let house = furnish(&belvo);
    belvo.fail(
        When::path("/api/accounts/"),
        Fault::error(401, "authentication_failed"),
    );
    let place = Place::new().with_authorization().fetching_from(&belvo);
    let Some((place, mut journald)) = under_journald(place) else {
        return;
    };
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    let failed = journald.until(&[
        ("BELVO_LINK_ID", house.link()),
        ("BELVO_SEQ", "1"),
        ("BELVO_ERROR_CLASS", "credentials"),
        ("BELVO_ERROR_CODE", "authentication_failed"),
        ("PRIORITY", "4"),
    ]);
    assert!(
        failed["MESSAGE"].contains(&failed["BELVO_REQUEST_ID"]),
        "{failed:?}"
    );
    let error = journald.until(&[("BELVO_PROBLEM", "api-keys-refused"), ("PRIORITY", "3")]);
    assert!(!error["BELVO_NEXT_STEP"].is_empty());
    for entry in &journald.entries {
        for secret in [KEYS.0, KEYS.1, AUTHORIZATION] {
            assert!(
                !entry.values().any(|value| value.contains(secret)),
                "{entry:?}"
            );
        }
    }
}

#[test]
fn of_many_webhooks_at_once_journald_gets_few_lines() {
    const WEBHOOKS: usize = 2_000;
    let Some((place, mut journald)) = under_journald(Place::new()) else {
        return;
    };
    let gateway = place.start();
    let webhook = |_| historical_update(Resource::Accounts, LINK, 2);
    // Each entry is taken as it comes, as journald does: its socket has room for few.
    let told = std::thread::scope(|scope| {
        let sending = scope.spawn(|| gateway.takes_in(WEBHOOKS, webhook));
        let (mut told, mut lines) = (0, 0);
        while told < WEBHOOKS {
            let entry = journald.next(Duration::from_secs(30)).expect("an entry");
            if let Some(many) = entry.get("BELVO_WEBHOOKS") {
                told += many.parse::<usize>().expect("a number");
                lines += 1;
            } else if entry.contains_key("BELVO_WEBHOOK_TYPE") {
                told += 1;
                lines += 1;
            }
        }
        drop(sending.join());
        assert_eq!(told, WEBHOOKS);
        lines
    });
    assert!(
        told < WEBHOOKS / 5,
        "{told} lines about {WEBHOOKS} webhooks"
    );
}
