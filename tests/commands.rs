//! What a person types, and what they see.

use std::process::Command;

use belvo_gateway::standin::payloads::{Resource, historical_update};
use serde_json::Value;

use crate::vocabulary::{LINK, PROGRAM, Place, text};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

/// A place where one known and one unknown webhook came, and one request was refused; the gateway is stopped.
fn used() -> Place {
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
    assert_eq!(
        gateway.answers(r#"{"webhook_type":"WEATHER","webhook_code":"sunny"}"#),
        200
    );
    assert_eq!(gateway.answers("not json"), 400);
    place.until("SELECT count(*) FROM events", 2);
    assert!(gateway.stop().0.success());
    place
}

#[test]
fn version_and_help_say_what_this_is() {
    let run = |argument| {
        text(
            &Command::new(PROGRAM)
                .arg(argument)
                .output()
                .expect("the program runs")
                .stdout,
        )
    };
    assert_eq!(
        run("--version"),
        format!("belvo-gateway {}\n", env!("CARGO_PKG_VERSION"))
    );
    for command in [
        "serve",
        "demo",
        "check",
        "doctor",
        "status",
        "events",
        "problems",
        "retry",
        "reconcile",
        "erase",
        "verify",
        "snapshot",
        "self-test",
    ] {
        assert!(run("--help").contains(command), "{command}");
    }
}

#[test]
fn a_mistyped_command_is_exit_2_with_the_nearest_one() {
    let output = Command::new(PROGRAM)
        .arg("sreve")
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("serve"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn check_says_what_the_gateway_would_do() {
    let place = Place::new().with_tls().with_authorization();
    let output = Command::new(PROGRAM)
        .args(["check", "--config"])
        .arg(place.configured())
        .output()
        .expect("a run");
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains(": good"), "{said}");
    assert!(
        said.contains("with an Authorization value")
            && said.contains("fetches nothing until API keys"),
        "{said}"
    );
}

#[test]
fn status_works_on_a_stopped_gateway_for_people_and_for_programs() {
    let place = used();
    let said = text(&place.reads("status", &[]).stdout);
    for words in [
        "webhooks         2",
        "unknown          1",
        "1 unreadable-body",
        "2 open; `belvo-gateway problems`",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let status = json(&place.reads("status", &["--json"]).stdout);
    assert_eq!(
        (&status["webhooks"], &status["unplanned"]),
        (&Value::from(2), &Value::from(0))
    );
    assert_eq!(status["work"]["waiting"], 1);
}

#[test]
fn events_are_listed_newest_first_and_shown_with_their_body() {
    let place = used();
    let listed = text(&place.reads("events list", &[]).stdout);
    let lines: Vec<_> = listed.lines().collect();
    assert!(
        lines[0].starts_with("SEQ") && lines[1].starts_with("2 ") && lines[2].starts_with("1 "),
        "{listed}"
    );
    assert!(
        lines[1].contains("sunny") && lines[1].ends_with("unknown"),
        "{listed}"
    );
    assert_eq!(
        text(&place.reads("events list", &["--limit", "1"]).stdout)
            .lines()
            .count(),
        2
    );
    let shown = text(&place.reads("events show", &["1"]).stdout);
    assert!(
        shown.contains("leads to    accounts") && shown.contains("\"total_accounts\":2"),
        "{shown}"
    );
    assert_eq!(
        json(&place.reads("events show", &["1", "--json"]).stdout)["link_id"],
        LINK
    );
}

#[test]
fn an_event_that_is_not_there_says_where_to_look() {
    let output = used().reads("events show", &["99"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("there is no webhook 99; `events list` shows the numbers")
    );
}

#[test]
fn problems_are_listed_with_their_next_step_and_the_exit_code_says_that_there_are_some() {
    let place = used();
    let output = place.reads("problems", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.contains("unreadable-body: 127.0.0.1") && said.contains("next: "),
        "{said}"
    );
    assert_eq!(
        json(&place.reads("problems", &["--json"]).stdout)
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[test]
fn without_a_file_the_reading_commands_say_how_to_get_one() {
    let place = Place::new();
    for command in ["status", "events list", "problems", "verify"] {
        let output = place.reads(command, &[]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(
            text(&output.stderr).contains("the gateway makes it when it first serves"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_configuration_says_where_the_file_is_when_nothing_else_does() {
    let place = used();
    let output = Command::new(PROGRAM)
        .args(["status", "--config"])
        .arg(place.configured())
        .output()
        .expect("a run");
    assert!(text(&output.stdout).contains("webhooks         2"));
}

#[test]
fn who_only_reads_needs_nothing_of_the_configuration_but_the_state_directory() {
    let place = used();
    let config = std::fs::read_to_string(place.configured()).expect("a configuration");
    let elsewhere = place.path("elsewhere.toml");
    let files = "mode = \"files\"\ncertificate = \"/nowhere/chain.pem\"\n";
    std::fs::write(&elsewhere, config.replace("mode = \"off\"\n", files)).expect("a configuration");
    let output = Command::new(PROGRAM)
        .args(["status", "--config"])
        .arg(&elsewhere)
        .output()
        .expect("a run");
    assert!(
        text(&output.stdout).contains("webhooks         2"),
        "{}",
        text(&output.stderr)
    );
}
