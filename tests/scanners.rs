//! What well-known scanners from Debian say about the listener's TLS: `sslscan` and `testssl`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::vocabulary::{Place, skipped, text};

/// What the scanner prints, with the gateway's host and port as its last argument; `None` when it is not installed.
fn scan(program: &str, arguments: &[&str]) -> Option<String> {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let target = format!("localhost:{}", gateway.address.port());
    let run = Command::new(program).args(arguments).arg(target).output();
    let Ok(output) = run else {
        skipped(&format!("{program} is not installed"));
        return None;
    };
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    Some(said)
}

#[test]
fn sslscan_sees_tls_1_2_and_1_3_and_authenticated_ciphers_alone() {
    let Some(said) = scan("sslscan", &["--no-colour"]) else {
        return;
    };
    for line in [
        "SSLv2     disabled",
        "SSLv3     disabled",
        "TLSv1.0   disabled",
        "TLSv1.1   disabled",
        "TLSv1.2   enabled",
        "TLSv1.3   enabled",
        "Session renegotiation not supported",
        "TLSv1.3 not vulnerable to heartbleed",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    let is_cipher = |line: &&str| line.starts_with("Preferred") || line.starts_with("Accepted");
    let ciphers: Vec<_> = said.lines().filter(is_cipher).collect();
    assert!(ciphers.len() >= 6, "{said}");
    for cipher in ciphers {
        assert!(
            cipher.contains("GCM")
                || cipher.contains("CHACHA20_POLY1305")
                || cipher.contains("CHACHA20-POLY1305"),
            "{cipher}"
        );
    }
}

#[test]
fn testssl_finds_no_weakness() {
    let place = tempfile::tempdir().expect("a directory");
    let report = place.path().join("report.json");
    let arguments = [
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "off",
        "-p",
        "-s",
        "-U",
        "--jsonfile",
    ];
    let file = report.to_str().expect("UTF-8");
    if scan("testssl", &[&arguments[..], &[file]].concat()).is_none() {
        return;
    }
    let report = std::fs::read_to_string(report).expect("a report");
    let findings: Vec<Value> = serde_json::from_str(&report).expect("JSON");
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let found: BTreeMap<String, String> = findings
        .iter()
        // About the machine that scans.
        .filter(|finding| finding["id"] != "engine_problem")
        .map(|finding| (word(finding, "id"), word(finding, "severity")))
        .collect();
    let weak: Vec<_> = found
        .iter()
        .filter(|(_, severity)| !["OK", "INFO"].contains(&severity.as_str()))
        .collect();
    assert!(weak.is_empty(), "{weak:?}");
    for tested in [
        "SSLv2",
        "SSLv3",
        "TLS1_2",
        "TLS1_3",
        "cipherlist_NULL",
        "cipherlist_LOW",
        "heartbleed",
        "CCS",
        "ticketbleed",
        "ROBOT",
        "secure_renego",
        "secure_client_renego",
        "CRIME_TLS",
        "BREACH",
        "POODLE_SSL",
        "SWEET32",
        "FREAK",
        "DROWN",
        "LOGJAM",
        "BEAST",
        "LUCKY13",
        "RC4",
    ] {
        assert_eq!(
            found.get(tested).map(String::as_str),
            Some("OK"),
            "{tested}"
        );
    }
}
