//! The operator's book, docs/operate.md and its translations: that it names every problem and every warning, that what it
//! has a person type can be typed, and that the three say the same.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use belvo_gateway::fetch::Class;
use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::journald;
use crate::vocabulary::{PROGRAM, Place, belvo, skipped, text};

const ENGLISH: &str = "docs/operate.md";
const TRANSLATIONS: [&str; 2] = ["docs/operate.pt.md", "docs/operate.es.md"];
const TROUBLESHOOTING: &str = "## Troubleshooting";

/// Commands that are run below, by how they begin, and the exit statuses that are as they should be.
const RUN: &[(&str, &[i32])] = &[
    ("belvo-gateway doctor", &[0, 1, 2]),
    ("belvo-gateway status", &[0]),
    ("belvo-gateway problems", &[0, 1]),
    ("belvo-gateway events list", &[0]),
    ("belvo-gateway check --explain", &[0, 1]),
    ("belvo-gateway check", &[0]),
    ("belvo-gateway snapshot", &[0]),
    ("belvo-gateway verify", &[0]),
    ("belvo-gateway reconcile", &[0]),
    ("sqlite3 -readonly", &[0]),
];

/// Commands that cannot be run here, by how they begin, and why. Their options are looked at where they are ours.
const NOT_HERE: &[(&str, &str)] = &[
    (
        "deploy/install ",
        "needs a box; tests/deploy/run has one in a container",
    ),
    (
        "deploy/firstboot ",
        "needs root and an image; tests/deploy/run makes one",
    ),
    (
        "belvo-gateway self-test",
        "needs root; tests/selftest.rs, and tests/installed/book",
    ),
    (
        "apt-get install ./belvo-gateway_",
        "needs a package and root; tests/installed/book types it in a container",
    ),
    (
        "apt-get install --allow-downgrades ./belvo-gateway_",
        "the same",
    ),
    ("apt-get install rclone", "needs root and a network"),
    ("rclone config", "asks a person"),
    (
        "install -d -m 0700 ",
        "makes directories of the system's, as root; tests/installed/book",
    ),
    ("(umask 077", "begins what takes secrets"),
    (")", "ends it"),
    (
        "cat > /etc/credstore/",
        "takes a secret from a terminal, as root; tests/installed/book",
    ),
    (
        "systemctl ",
        "needs systemd as the first process; tests/installed/book has it in a container",
    ),
    (
        "journalctl ",
        "needs journald; tests/journald.rs plays it, and tests/installed/book has it",
    ),
    (
        "install -d -m 0750 -o belvo-gateway",
        "needs root and the service's user; tests/installed/book",
    ),
    (
        "install -d -m 0755 /etc/belvo-gateway/tls",
        "puts a certificate into the system's place, as root; tests/installed/book",
    ),
    ("install -m 0644 fullchain.pem", "the same"),
    (
        "install -m 0600 -o belvo-gateway",
        "needs root and the service's user",
    ),
    ("[ ! -e /var/lib/belvo-gateway/gateway.db ]", "the same"),
    ("install -m 0640 -o belvo-gateway", "the same"),
];

/// Lines that are no call of a log macro, with the file that has them: what ends the program, and what a part of it hands
/// on to be logged.
const HANDED_ON: &[(&str, &str)] = &[
    ("src/gateway.rs", "no Authorization value is configured: "),
    ("src/gateway.rs", "no API keys are configured: "),
    ("src/gateway.rs", "the file was damaged: "),
    (
        "src/gateway.rs",
        "the service manager could not be told that the gateway is ready: ",
    ),
    (
        "src/gateway.rs",
        "the file cannot be written, so the watchdog is not fed: ",
    ),
    ("src/gateway.rs", "the watchdog cannot be fed: "),
    ("src/gateway.rs", " has ended: "),
    (
        "src/gateway/background.rs",
        "retry, reconcile and erase cannot reach the gateway while it runs: ",
    ),
    ("src/intake/listener.rs", "connections cannot be accepted: "),
    ("src/intake/listener.rs", "cannot listen on "),
    (
        "src/operate/presence.rs",
        "the comparison with Belvo after an absence failed and is tried again: ",
    ),
    ("src/operate/erase.rs", "the erasure of link "),
    ("src/database/mod.rs", "the state directory "),
    (
        "src/database/mod.rs",
        " was written by a newer version of the gateway ",
    ),
    (
        "src/database/mod.rs",
        " is damaged, or no database of the gateway: ",
    ),
    ("src/database/mod.rs", " cannot be made durable: "),
    ("src/database/writer.rs", "nothing could be written for "),
    ("src/system/secret.rs", " may be read by everybody (mode "),
];

/// Headings of lines that systemd writes, or that are said about its sockets.
const OF_OTHERS: [&str; 3] = [
    "status=78/CONFIG",
    "listen.address names ",
    "the service manager hands over ",
];

struct Book {
    path: &'static str,
    sections: Vec<Section>,
}

/// A heading, and what stands under it until the next.
struct Section {
    heading: String,
    prose: String,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    kind: String,
    text: String,
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn book(path: &'static str) -> Book {
    let (mut sections, mut block) = (Vec::<Section>::new(), None::<Block>);
    for line in read(path).lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some(open), None) => open.text += &format!("{line}\n"),
            (Some(_), Some(_)) => {
                let shut = block.take().expect("an open block");
                let section = sections.last_mut().expect("a heading first");
                section.blocks.push(shut);
            }
            (None, Some(kind)) => {
                block = Some(Block {
                    kind: kind.to_owned(),
                    text: String::new(),
                });
            }
            (None, None) if line.starts_with('#') => sections.push(Section {
                heading: line.to_owned(),
                prose: String::new(),
                blocks: Vec::new(),
            }),
            (None, None) => {
                let section = sections.last_mut().expect("a heading first");
                section.prose += &format!("{line}\n");
            }
        }
    }
    assert!(block.is_none(), "{path} ends in a block");
    Book { path, sections }
}

impl Book {
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.sections.iter().flat_map(|section| &section.blocks)
    }

    /// The headings of what can go wrong, without signs. The chapter is the last one.
    fn troubles(&self) -> Vec<String> {
        let chapter = |section: &&Section| section.heading.starts_with("## ");
        let last = self.sections.iter().rposition(|one| chapter(&one));
        let headings = self.sections[last.expect("chapters") + 1..].iter();
        headings
            .map(|section| section.heading.trim_start_matches("### ").to_owned())
            .collect()
    }

    /// The lines that a person types.
    fn commands(&self) -> Vec<String> {
        let typed = self.blocks().filter(|block| block.kind == "sh");
        let lines = typed.flat_map(|block| block.text.lines());
        lines.map(str::to_owned).collect()
    }
}

impl Section {
    fn level(&self) -> usize {
        self.heading.find(' ').expect("a heading")
    }

    /// What stands between backticks.
    fn code(&self) -> BTreeSet<&str> {
        self.prose.split('`').skip(1).step_by(2).collect()
    }

    /// Where its links lead, in order.
    fn links(&self) -> Vec<&str> {
        let ends = self.prose.split("](").skip(1);
        ends.filter_map(|rest| rest.split(')').next()).collect()
    }
}

fn plain(heading: &str) -> &str {
    heading.trim_matches('`')
}

/// Whether one of the headings is how a line begins.
fn has_heading(troubles: &[String], said: &str) -> bool {
    let begins = |heading: &String| said.trim_start().starts_with(plain(heading));
    troubles.iter().any(begins)
}

#[test]
fn the_book_says_the_same_in_three_languages() {
    let english = book(ENGLISH);
    for path in TRANSLATIONS {
        let other = book(path);
        for (one, two) in english.sections.iter().zip(&other.sections) {
            let place = format!("{path}, {:?} for {:?}", two.heading, one.heading);
            assert_eq!(one.level(), two.level(), "{place}");
            assert_eq!(one.blocks, two.blocks, "{place}");
            assert_eq!(one.code(), two.code(), "{place}");
            assert_eq!(one.links(), two.links(), "{place}");
        }
        assert_eq!(english.sections.len(), other.sections.len(), "{path}");
        assert_eq!(english.troubles(), other.troubles(), "{path}");
    }
}

#[test]
fn every_kind_of_problem_has_its_heading() {
    let source = read("src/store/problems.rs");
    let names: BTreeSet<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(_, rest)| rest.trim_end_matches("\","))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let troubles = book(ENGLISH).troubles();
    let kinds: BTreeSet<_> = troubles
        .iter()
        .map(String::as_str)
        .filter(|heading| !heading.starts_with('`'))
        .collect();
    assert_eq!(names, kinds, "{ENGLISH} has a heading for each kind");
}

#[test]
fn every_class_of_errors_is_explained() {
    let english = book(ENGLISH);
    let failed = |section: &&Section| section.heading == "### `a fetch failed: `";
    let explained = english.sections.iter().find(failed).expect("a section");
    for class in Class::ALL {
        assert!(explained.code().contains(class.name()), "{}", class.name());
    }
}

#[test]
fn every_warning_and_error_of_the_log_has_its_heading() {
    let troubles = book(ENGLISH).troubles();
    for line in journald::lines() {
        let said = line.text.split('{').next().unwrap_or_default();
        // A problem, which has a heading by its kind, or what somebody hands on.
        if said.is_empty() || !["error", "warn"].contains(&line.level) {
            continue;
        }
        assert!(
            has_heading(&troubles, said),
            "{ENGLISH} has no heading for {said:?} of src/{}",
            line.place
        );
    }
    for (file, said) in HANDED_ON {
        assert!(read(file).contains(said), "{file} does not say {said:?}");
        assert!(
            has_heading(&troubles, said),
            "{ENGLISH} has no heading for {said:?}"
        );
    }
}

#[test]
fn every_warning_that_is_handed_on_to_be_logged_has_its_heading() {
    let troubles = book(ENGLISH).troubles();
    for (path, source) in sources() {
        let tests = source
            .find("#[cfg(test)]\nmod tests")
            .unwrap_or(source.len());
        for mark in ["Notice::Warning(", "Notice::Trouble {"] {
            for (at, found) in source[..tests].match_indices(mark) {
                let rest = &source[at + found.len()..tests];
                // Handed on once more, and found where it is made.
                let Some(said) = rest.find('"').filter(|at| *at < 40) else {
                    continue;
                };
                let said = rest[said + 1..].split(['{', '"']).next().expect("a text");
                assert!(
                    said.is_empty() || has_heading(&troubles, said),
                    "{path} has {said:?} logged; {ENGLISH} has no heading for it"
                );
            }
        }
    }
}

#[test]
fn no_heading_is_about_what_nobody_says() {
    let all: String = sources().into_iter().map(|(_, text)| text).collect();
    for heading in book(ENGLISH).troubles() {
        let said = plain(&heading);
        assert!(
            OF_OTHERS.contains(&said) || all.contains(said),
            "nothing in src/ says {said:?}"
        );
    }
}

/// The files of src/.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src/") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((
                    path.display().to_string(),
                    fs::read_to_string(&path).expect("a text"),
                )),
            }
        }
    }
    found
}

#[test]
fn every_command_is_run_by_a_test_or_cannot_be() {
    let commands = book(ENGLISH).commands();
    for command in &commands {
        let begins = |(begin, _): &(&str, &str)| command.starts_with(begin);
        let is_run = RUN.iter().any(|(begin, _)| command.starts_with(begin));
        assert!(
            is_run || NOT_HERE.iter().any(begins),
            "{command:?} is not tried: give it a line in RUN, or in NOT_HERE with the reason"
        );
    }
    let begins = NOT_HERE.iter().map(|(begin, _)| begin);
    for begin in begins.chain(RUN.iter().map(|(begin, _)| begin)) {
        assert!(
            commands.iter().any(|command| command.starts_with(begin)),
            "{ENGLISH} has no command {begin:?} any more"
        );
    }
}

/// What is tried on a gateway that has served and serves.
struct Terminal<'a> {
    place: &'a Place,
}

impl Terminal<'_> {
    /// Runs a line of the book, with the paths of this place and its configuration.
    fn types(&self, line: &str) -> Output {
        let programs = self.place.path("programs");
        fs::create_dir_all(&programs).expect("a directory");
        let script = format!(
            "#!/bin/sh\nexec {PROGRAM} \"$@\" --config {}\n",
            self.place.path("config.toml").display()
        );
        let ours = programs.join("belvo-gateway");
        fs::write(&ours, script).expect("a script");
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).expect("a program");
        let path = format!("{}:{}", programs.display(), env!("PATH"));
        Command::new("sh")
            .args(["-euc", &self.here(line)])
            .env("PATH", path)
            .output()
            .expect("a shell")
    }

    fn here(&self, line: &str) -> String {
        let state = self.place.state();
        let state = state.to_str().expect("UTF-8");
        let copy = self.place.path("copy.db");
        line.replace("/var/lib/belvo-gateway", state)
            .replace("/var/backups/gateway.db", copy.to_str().expect("UTF-8"))
    }
}

#[test]
fn what_can_be_typed_here_does_what_the_book_says() {
    let belvo = belvo();
    let house = Household::new(6, 2);
    belvo.put("/api/accounts/", house.link(), house.accounts());
    belvo.put_link(&house.link_record());
    let place = Place::new()
        .with_tls()
        .with_authorization()
        .fetching_from(&belvo);
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, house.link(), 2)),
        200
    );
    place.until_fetched();
    let here = Terminal { place: &place };
    let known = help("");
    let has_sqlite = Command::new("sqlite3").arg("--version").output().is_ok();
    for line in book(ENGLISH).commands() {
        let Some((_, fine)) = RUN.iter().find(|(begin, _)| line.starts_with(begin)) else {
            continue;
        };
        let mut words = line.split(' ');
        let (program, command) = (words.next(), words.next().expect("a command"));
        if program == Some("sqlite3") && !has_sqlite {
            skipped("no sqlite3");
            continue;
        }
        if program == Some("belvo-gateway") && !known.contains(&format!("\n  {command}")) {
            skipped(&format!("the program has no {command}"));
            continue;
        }
        // The copy of the book's own command, or the file where there is none.
        if !place.path("copy.db").exists() && line.starts_with("sqlite3 -readonly /var/backups/") {
            fs::copy(place.state().join("gateway.db"), place.path("copy.db")).expect("a copy");
        }
        let typed = here.types(&line);
        let status = typed.status.code().expect("an exit status");
        assert!(
            fine.contains(&status),
            "{line} ended with {status}: {}{}",
            text(&typed.stdout),
            text(&typed.stderr)
        );
    }
}

fn help(command: &str) -> String {
    let mut program = Command::new(PROGRAM);
    program.args(command.split_whitespace()).arg("--help");
    text(&program.output().expect("the program runs").stdout)
}

#[test]
fn every_option_that_the_book_names_exists() {
    let english = book(ENGLISH);
    let inline = english.sections.iter().flat_map(Section::code);
    let typed = english.commands();
    let all = inline.chain(typed.iter().map(String::as_str));
    let known = help("");
    for line in all {
        let options = line
            .split_whitespace()
            .filter(|word| word.starts_with("--"));
        let said = match line.split_once(' ') {
            Some(("belvo-gateway", rest)) => {
                let mut words = rest.split(' ').take_while(|word| !word.starts_with('-'));
                let command = words.next().unwrap_or_default();
                if !known.contains(&format!("\n  {command}")) {
                    skipped(&format!("the program has no {command}"));
                    continue;
                }
                match command {
                    "events" => help("events list") + &help("events show"),
                    command => help(command),
                }
            }
            Some((script, _)) if script.starts_with("deploy/") => match usage(script) {
                Some(usage) => usage,
                None => continue,
            },
            _ => continue,
        };
        for option in options {
            assert!(said.contains(option), "{line}: no {option} in\n{said}");
        }
    }
}

/// The text of a script, whose head is its usage.
fn usage(script: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let found = fs::read_to_string(path).ok();
    if found.is_none() {
        skipped(&format!("there is no {script}"));
    }
    found
}

#[test]
fn every_configuration_of_the_book_is_one() {
    let place = Place::new().with_tls();
    let tls = place.configured();
    let tls = fs::read_to_string(tls).expect("a configuration");
    let named = |key: &str| {
        let line = tls.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key}"))
            .trim_matches('"')
            .to_owned()
    };
    let (certificate, key) = (named("certificate = "), named("key = "));
    let mut tried = 0;
    for block in book(ENGLISH).blocks().filter(|block| block.kind == "toml") {
        let text_of = block
            .text
            .replace("/etc/belvo-gateway/tls/fullchain.pem", &certificate)
            .replace("/etc/belvo-gateway/tls/key.pem", &key)
            .replace(
                "/var/lib/belvo-gateway",
                place.state().to_str().expect("UTF-8"),
            );
        let path = place.path("tried.toml");
        fs::write(&path, text_of).expect("a configuration");
        let mut check = Command::new(PROGRAM);
        check.args(["check", "--config"]).arg(&path);
        let checked = check.output().expect("the program runs");
        let said = text(&checked.stderr);
        assert!(checked.status.success(), "{}{said}", block.text);
        tried += 1;
    }
    assert_eq!(tried, 3);
}

#[test]
fn every_unit_of_the_book_is_one() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return skipped("no systemd-analyze");
    }
    let place = Place::new();
    let english = book(ENGLISH);
    for block in english.blocks().filter(|block| block.kind == "ini") {
        let is = |section: &str| block.text.contains(section);
        let end = match (is("[Timer]"), is("[Socket]")) {
            (true, _) => "timer",
            (_, true) => "socket",
            _ => "service",
        };
        let mut unit = block.text.clone();
        if !is("[Unit]") && end == "service" {
            unit = unit.replace("[Service]\n", "[Service]\nType=oneshot\n");
        }
        for program in ["belvo-gateway", "rclone", "litestream"] {
            unit = unit.replace(
                &format!("ExecStart=/usr/bin/{program} "),
                "ExecStart=/usr/bin/true ",
            );
        }
        let service = "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n";
        let path = place.path(&format!("belvo-gateway-tried.{end}"));
        fs::write(place.path("belvo-gateway-tried.service"), service).expect("a unit");
        fs::write(&path, unit).expect("a unit");
        let verify = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&path)
            .output();
        let verify = verify.expect("systemd-analyze");
        let said = text(&verify.stderr);
        // Nothing is installed here that the system's own units could complain about.
        let ours: Vec<_> = said.lines().filter(|line| line.contains("tried")).collect();
        assert!(ours.is_empty(), "{}{}", block.text, ours.join("\n"));
    }
}

#[test]
fn the_book_has_a_chapter_of_what_can_go_wrong_and_the_readme_leads_to_it() {
    assert!(read(ENGLISH).contains(TROUBLESHOOTING));
    assert!(read("README.md").contains("(docs/operate.md)"));
    for path in [ENGLISH].iter().chain(&TRANSLATIONS) {
        let book = book(path);
        for link in book.sections.iter().flat_map(Section::links) {
            let target = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("docs")
                .join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", book.path);
        }
    }
}
