//! Who may know what: reads the text of src/ and keeps its parts apart. Comments, the content of strings, and tests do
//! not count; only words do, so a name that is hidden in a macro or behind `as` is not seen.

mod rust;

use std::path::Path;

use rust::{File, file, source, texts};

/// A crate or an idea, and the only places that may name it.
struct Only {
    what: &'static str,
    words: &'static [&'static str],
    /// A file of src/, or the beginning of the paths of several, and why it may. An allowed place is one line here.
    places: &'static [(&'static str, &'static str)],
}

/// Words end in `::` for a crate or module, wherever it stands in a path; anything else is Rust to be found as it is.
const ONLY: &[Only] = &[
    Only {
        what: "HTTP",
        words: &["hyper::", "hyper_util::", "http_body_util::", "http::"],
        places: &[
            ("intake/", "answers requests"),
            ("fetch/client.rs", "makes requests"),
            ("acme/client.rs", "makes others"),
            ("config.rs", "reads addresses as the client's own type"),
            ("standin/", "plays Belvo"),
        ],
    },
    Only {
        what: "TLS",
        words: &[
            "rustls::",
            "tokio_rustls::",
            "hyper_rustls::",
            "rustls_native_certs::",
            "webpki_roots::",
        ],
        places: &[
            ("intake/tls.rs", "files -> settings of the server"),
            ("intake/listener.rs", "hands these settings on"),
            ("intake/connection.rs", "the handshake"),
            ("intake/challenge.rs", "the handshake of an authority"),
            ("fetch/client.rs", "the client's side"),
            ("acme/client.rs", "the same for an authority"),
            ("system/tls.rs", "names the provider"),
            ("system/chain.rs", "judges a chain as a client would"),
            ("gateway.rs", "hands settings and roots on"),
            ("standin/", "plays Belvo"),
        ],
    },
    Only {
        what: "the crypto provider",
        words: &["default_provider", "aws_lc_rs"],
        places: &[("system/tls.rs", "one for server, client and stand-in")],
    },
    Only {
        what: "SQL",
        words: &["rusqlite::"],
        places: &[
            ("database/", "opens the file and writes it"),
            ("journal/", "its table"),
            ("store/", "its tables"),
            ("commands/demo/file.rs", "reads as an admin would"),
        ],
    },
    Only {
        what: "calls of the system that the standard library lacks",
        words: &["rustix::"],
        places: &[
            (
                "database/room.rs",
                "the room on the disk, and setting some aside",
            ),
            ("database/mod.rs", "whether a file may be written"),
            ("system/boot.rs", "the time since boot"),
            ("system/watch.rs", "changes of files"),
            (
                "system/handed_over.rs",
                "whether a socket is one that listens",
            ),
            ("system/medium.rs", "what a directory lies on"),
        ],
    },
    Only {
        what: "calls of the system that rustix lacks",
        words: &["libc::"],
        places: &[
            ("system/writeback.rs", "has the kernel begin to write"),
            ("system/code.rs", "has the kernel let go of memory"),
        ],
    },
    Only {
        what: "options of sockets that the standard library lacks",
        words: &["socket2::"],
        places: &[(
            "system/detour.rs",
            "a connection from an address that is not ours",
        )],
    },
    Only {
        what: "networks of addresses",
        words: &["ipnet::"],
        places: &[("intake/source.rs", "the source check")],
    },
    Only {
        what: "the PROXY protocol",
        words: &["proxy_header::"],
        places: &[("intake/proxy_line.rs", "what a trusted proxy says")],
    },
    Only {
        what: "the log",
        words: &["tracing::"],
        places: &[
            (
                "drain/mod.rs",
                "on the drain's thread, which no answer waits for",
            ),
            ("drain/planner.rs", "the same"),
            ("drain/retention.rs", "the same"),
            ("drain/salvage.rs", "the same"),
            ("fetch/keys.rs", "the same"),
            ("gateway/", "the same"),
            ("bookkeeper.rs", "what the intake had to say, afterwards"),
            ("commands/serve.rs", "why the gateway ended"),
            ("cli.rs", "the level, for --log"),
            ("system/logging.rs", "the level"),
            ("standin/", "its own connections"),
        ],
    },
    Only {
        what: "where logs go",
        words: &["tracing_journald::", "tracing_subscriber::"],
        places: &[("system/logging.rs", "journald or stderr")],
    },
    Only {
        what: "what a secret is made of",
        words: &["subtle::", "secrecy::", "ExposeSecret"],
        places: &[("system/secret.rs", "the one visible way out")],
    },
    Only {
        what: "the form of the configuration",
        words: &["toml::", "strsim::"],
        places: &[("config.rs", "the only file that knows it")],
    },
    Only {
        what: "the command line",
        words: &["clap::"],
        places: &[("cli.rs", "the subcommands")],
    },
    Only {
        what: "errors without a type",
        words: &["anyhow::"],
        places: &[("commands/", "shown to a person and to nobody else")],
    },
    Only {
        what: "what systemd is told",
        words: &["sd_notify::"],
        places: &[
            ("system/notify.rs", "readiness and the watchdog"),
            ("system/handed_over.rs", "the sockets that it hands over"),
        ],
    },
    Only {
        what: "making certificates",
        words: &["rcgen::"],
        places: &[
            ("standin/certificates.rs", "for the demo and the tests"),
            ("acme/mod.rs", "for a challenge"),
        ],
    },
    Only {
        what: "the stand-in for Belvo",
        words: &["standin::"],
        places: &[
            ("commands/demo", "nothing that runs in production"),
            (
                "commands/selftest.rs",
                "sends the running gateway one webhook, as Belvo would",
            ),
        ],
    },
    Only {
        what: "the intake",
        words: &["intake::"],
        places: &[
            ("gateway.rs", "wires both halves"),
            ("gateway/", "changes what the listener holds"),
            ("acme/mod.rs", "shows a challenge"),
            ("config.rs", "reads addresses into the source check's type"),
            ("commands/check.rs", "says which proxies are believed"),
            ("commands/explain.rs", "asks whom it would judge"),
            (
                "commands/doctor/",
                "asks the same, and reads the certificate",
            ),
            ("commands/selftest.rs", "asks whom it may come from"),
        ],
    },
    Only {
        what: "the drain",
        words: &["drain::"],
        places: &[
            ("gateway.rs", "wires both halves"),
            ("gateway/", "changes the request budget"),
            ("store/", "keeps plans and the state of work"),
            ("config.rs", "reads how long is kept into its type"),
            ("operate/", "orders work, in the drain's own moves"),
        ],
    },
    Only {
        what: "the API",
        words: &["fetch::"],
        places: &[
            ("gateway.rs", "wires both halves"),
            ("gateway/", "changes the keys"),
            (
                "acme/",
                "takes the way to a server and nothing of what is asked there",
            ),
            ("drain/", "asks it for pages"),
            ("commands/doctor/", "asks once whether the keys are right"),
            ("operate/", "lists the links, to compare"),
        ],
    },
    Only {
        what: "unsafe code",
        words: &["unsafe"],
        places: &[
            (
                "system/handed_over.rs",
                "a number from the environment becomes a descriptor",
            ),
            (
                "system/writeback.rs",
                "a call that the standard library lacks",
            ),
            ("system/code.rs", "a call that the standard library lacks"),
            (
                "database/backfill.rs",
                "a count in memory that SQLite shares between connections",
            ),
        ],
    },
    Only {
        what: "a panic without a reason",
        words: &[".unwrap()", "todo!", "unimplemented!"],
        places: &[],
    },
];

/// A place, what it never names, and why.
struct Never {
    place: &'static str,
    words: &'static [&'static str],
    why: &'static str,
}

const NEVER: &[Never] = &[
    Never {
        place: "intake/",
        words: &["drain::", "fetch::", "store::", "bookkeeper::", "operate::"],
        why: "an answer waits for the journal and for nothing else",
    },
    Never {
        place: "intake/",
        words: &[
            "tracing::",
            "logging::",
            "error!",
            "warn!",
            "info!",
            "debug!",
            "trace!",
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
            "dbg!",
        ],
        why: "a stuck log must not hold up an answer; what the intake has to say is a notice",
    },
    Never {
        place: "drain/",
        words: &["intake::", "operate::"],
        why: "the journal is all that the halves share, and an operator's order is work like any other",
    },
    Never {
        place: "operate/",
        words: &["intake::", "commands::", "cli::", "print!", "println!"],
        why: "its orders and reports are values; an answer never waits for them, and how they are shown is not its business",
    },
    Never {
        place: "fetch/",
        words: &["intake::", "drain::", "store::", "journal::"],
        why: "it knows pages and errors, not why they are asked for or where objects go",
    },
    Never {
        place: "store/",
        words: &["intake::", "fetch::"],
        why: "it never knows why it was called",
    },
    Never {
        place: "standin/",
        words: &[
            "bookkeeper::",
            "catalog::",
            "config::",
            "database::",
            "drain::",
            "fetch::",
            "gateway::",
            "intake::",
            "journal::",
            "limits::",
            "notices::",
            "store::",
            "webhook::",
        ],
        why: "it knows what Belvo documents; what it shared with the gateway, it could not find wrong",
    },
];

/// Files that only decide: the same input always gives the same answer.
const PURE: &[&str] = &[
    "webhook.rs",
    "catalog.rs",
    "intake/source.rs",
    "intake/hops.rs",
    "intake/proxy_line.rs",
    "intake/rules.rs",
    "intake/auth.rs",
    "intake/head.rs",
    "intake/seats.rs",
    "drain/plan.rs",
    "drain/work.rs",
    "drain/retry.rs",
    "drain/links.rs",
    "drain/consents.rs",
    "drain/trouble.rs",
    "drain/outage.rs",
    "system/certificate.rs",
    "system/times.rs",
    "fetch/page.rs",
    "fetch/record.rs",
    "fetch/error.rs",
    "fetch/codes.rs",
];

/// No task, no clock, no dice, no disk, no network, no log, no SQL.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio::",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "UnixMs::now",
    "Stamp::now",
    "clock::Clock",
    "fastrand::",
    "std::fs",
    "std::env",
    "std::process",
    "system::files",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "hyper::",
    "tracing::",
    "println!",
    "eprintln!",
    "rusqlite::",
];

#[test]
fn a_crate_or_idea_appears_only_where_it_may() {
    let files = source();
    let breaches: Vec<_> = ONLY.iter().flat_map(|only| only.breaches(&files)).collect();
    assert!(
        breaches.is_empty(),
        "take it out, or give the place a line with its reason in ONLY:\n{}",
        breaches.join("\n")
    );
}

#[test]
fn every_place_that_may_know_something_still_does() {
    let files = source();
    for only in ONLY {
        for (place, _) in only.places {
            assert!(
                files
                    .iter()
                    .any(|file| file.is_in(place) && file.first(only.words).is_some()),
                "nothing in src/{place} names {} any more: take its line out of ONLY",
                only.what
            );
        }
    }
}

#[test]
fn no_part_names_what_it_must_not_know() {
    let files = source();
    for never in NEVER {
        assert!(
            files.iter().any(|file| file.is_in(never.place)),
            "src/{} is gone: change NEVER",
            never.place
        );
    }
    let breaches: Vec<_> = NEVER
        .iter()
        .flat_map(|never| never.breaches(&files))
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn what_only_decides_touches_no_clock_disk_network_or_task() {
    let files = source();
    for path in PURE {
        let file = files
            .iter()
            .find(|file| file.path == *path)
            .unwrap_or_else(|| panic!("src/{path} is gone: change PURE"));
        if let Some((line, word)) = file.first(IMPURE) {
            panic!("src/{path}:{line} names {word}, but it only decides");
        }
    }
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    for (path, text) in texts() {
        let mark = match Path::new(&path).extension().and_then(|end| end.to_str()) {
            Some("rs") => "//! ",
            Some("sql") => "-- ",
            _ => panic!("src/{path} is neither Rust nor SQL"),
        };
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with(mark) && first.len() > mark.len(),
            "src/{path} begins with {first:?}; it must say what it is for, after {mark:?}"
        );
    }
}

#[test]
fn every_bound_has_a_reason_and_is_kept_somewhere() {
    let files = source();
    let limits = texts()
        .into_iter()
        .find(|(path, _)| path == "limits.rs")
        .expect("limits.rs")
        .1;
    let mut bounds = 0;
    let mut before = "";
    for line in limits.lines() {
        if let Some(rest) = line.strip_prefix("pub const ") {
            bounds += 1;
            let (name, _) = rest.split_once(':').expect("a type");
            assert!(
                before.starts_with("/// "),
                "{name} has no reason above it in limits.rs"
            );
            assert!(
                files
                    .iter()
                    .any(|file| file.path != "limits.rs" && file.line_of(name).is_some()),
                "{name} of limits.rs bounds nothing"
            );
        }
        before = line;
    }
    assert!(bounds > 0, "limits.rs has no bounds");
}

impl Only {
    fn breaches(&self, files: &[File]) -> Vec<String> {
        let elsewhere = |file: &&File| !self.places.iter().any(|(place, _)| file.is_in(place));
        let breach = |file: &File| {
            let (line, word) = file.first(self.words)?;
            let mut text = format!("src/{}:{line} names {word} ({})", file.path, self.what);
            if self.places.is_empty() {
                text += "; nothing may";
            }
            for (place, why) in self.places {
                text += &format!("\n    src/{place} may: {why}");
            }
            Some(text)
        };
        files.iter().filter(elsewhere).filter_map(breach).collect()
    }
}

impl Never {
    fn breaches(&self, files: &[File]) -> Vec<String> {
        let breach = |file: &File| {
            let (line, word) = file.first(self.words)?;
            let (place, why) = (self.place, self.why);
            Some(format!(
                "src/{}:{line} names {word}, which src/{place} never does: {why}",
                file.path
            ))
        };
        files
            .iter()
            .filter(|file| file.is_in(self.place))
            .filter_map(breach)
            .collect()
    }
}

#[test]
fn a_breach_names_its_file_its_line_and_the_rule() {
    let files = [
        file("intake/mod.rs", "\nuse tracing::info;"),
        file("drain/mod.rs", "use tracing::info;"),
    ];
    let found: Vec<_> = NEVER
        .iter()
        .flat_map(|never| never.breaches(&files))
        .collect();
    assert_eq!(
        found,
        [
            "src/intake/mod.rs:2 names tracing::, which src/intake/ never does: a stuck log must not hold up an answer; \
             what the intake has to say is a notice"
        ]
    );
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = std::fs::read_to_string(root.join("docs/security.md")).expect("docs/security.md");
    let mut code = String::new();
    let mut places = vec![root.join("src"), root.join("tests")];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                code += &std::fs::read_to_string(path).expect("a file");
            }
        }
    }
    // A test's name is the only thing in backticks with so many underlines.
    let names: Vec<_> = model
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() > 2)
        .collect();
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "docs/security.md names {missing:?}");
}
