//! What every input is put to, one function a target. Each takes any bytes and panics when something does not hold. The
//! fuzzer calls them, and so does `cargo test`, with inputs near the seeds (tests/fuzzed.rs).

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use belvo_gateway::config::{self, Surroundings};
use belvo_gateway::database::{StateDirectory, Writer, open_writer};
use belvo_gateway::fetch::{Page, retry_after as read_retry_after};
use belvo_gateway::intake::auth::{Authorization, Verdict};
use belvo_gateway::intake::head::{Body as Follows, Follower};
use belvo_gateway::intake::hops::{Proxies, Told, Unclear};
use belvo_gateway::intake::proxy_line::{self, FirstBytes};
use belvo_gateway::intake::rules::Rules;
use belvo_gateway::intake::source::{AllowList, Peer};
use belvo_gateway::intake::{Intake, listener};
use belvo_gateway::journal::Journal;
use belvo_gateway::notices::Notices;
use belvo_gateway::store::VIEWS;
use belvo_gateway::system::secret::Secret;
use belvo_gateway::system::stop;
use belvo_gateway::webhook::{Body, Envelope, request_id_in};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

/// A connection's bytes, through the code that serves connections: no more answers than requests, no 200 to a head that
/// two readers could take for two things, and every answer one that is documented.
pub fn heads(bytes: &[u8]) {
    let said = String::from_utf8_lossy(&served(bytes)).into_owned();
    let statuses: Vec<_> = said
        .match_indices("HTTP/1.")
        .filter_map(|(at, _)| said.get(at + 9..at + 12))
        .collect();
    let documented = [
        "100", "200", "400", "404", "405", "408", "413", "414", "431", "503",
    ];
    assert!(
        statuses.iter().all(|status| documented.contains(status)),
        "{said}"
    );
    let good = heads_in_order(bytes);
    let answered = statuses.iter().filter(|status| **status == "200").count();
    assert!(
        answered <= good,
        "{answered} answers of 200 to {good} heads in order: {said}"
    );
}

/// How many heads follow each other until one is not in order, or does not say where the next one begins.
fn heads_in_order(bytes: &[u8]) -> usize {
    let (mut rest, mut good) = (bytes, 0);
    loop {
        let mut follower = Follower::default();
        rest = &rest[follower.follow(rest)..];
        match follower.verdict() {
            Ok(Follows::Bytes(_)) if follower.is_whole() => good += 1,
            Ok(_) => return good + 1,
            Err(_) => return good,
        }
    }
}

fn served(bytes: &[u8]) -> Vec<u8> {
    struct Served {
        intake: Arc<Intake>,
        _directory: TempDir,
    }
    static SERVED: OnceLock<Served> = OnceLock::new();
    let intake = &SERVED
        .get_or_init(|| {
            let directory = tempfile::tempdir().expect("a directory");
            let intake = intake(directory.path());
            Served {
                intake: Arc::new(intake),
                _directory: directory,
            }
        })
        .intake;
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let (_stopper, stop) = stop::pair();
        let peer = Peer::from(IpAddr::from([127, 0, 0, 1]));
        let talk = listener::serve_over(theirs, peer, Arc::clone(intake), stop);
        let ask = async {
            // Whoever is refused halfway cannot write the rest.
            drop(ours.write_all(bytes).await);
            drop(ours.shutdown().await);
            let mut said = Vec::new();
            drop(ours.read_to_end(&mut said).await);
            said
        };
        tokio::join!(talk, ask).1
    })
}

fn intake(directory: &Path) -> Intake {
    let directory = StateDirectory::lock(directory).expect("a state directory");
    let connection = open_writer(&directory, VIEWS).expect("a file");
    // Its thread ends with the process.
    let (writer, _end) = Writer::start(directory, connection, VIEWS).expect("a writer");
    let rules = Rules {
        allow: AllowList::new(vec!["127.0.0.1".parse().expect("a source")]),
        proxies: None,
        authorization: Authorization::default(),
        drift_alarm: false,
    };
    Intake::new(
        "/h".to_owned(),
        rules,
        Journal::new(writer),
        Notices::default(),
    )
}

/// The beginning of a trusted proxy's connection: a line is the same whatever follows it, and none before it is whole.
pub fn proxy_line(bytes: &[u8]) {
    if let Ok(Some((whom, length))) = proxy_line::read(bytes) {
        assert_eq!(proxy_line::read(&bytes[..length]), Ok(Some((whom, length))));
        let early = (0..length).find(|cut| proxy_line::read(&bytes[..*cut]) != Ok(None));
        assert_eq!(early, None, "{bytes:?}");
    }
    let (mut whole, mut pieces) = (FirstBytes::default(), FirstBytes::default());
    let shown = bytes.chunks(2).any(|piece| pieces.show_proxy_line(piece));
    assert_eq!(whole.show_proxy_line(bytes), shown);
}

/// Lines of a header that says whom a proxy speaks for: what a proxy adds at the end counts, whatever stands before it.
pub fn forwarded(bytes: &[u8]) {
    let trusted = || AllowList::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let (client, is_client) = (
        [&b"203.0.113.7"[..], b"for=203.0.113.7"],
        Peer::from(IpAddr::from([203, 0, 113, 7])),
    );
    for (told, added) in [Told::XForwardedFor, Told::Forwarded]
        .into_iter()
        .zip(client)
    {
        let (proxies, name) = (
            Proxies::new(trusted(), told),
            told.header().expect("a header"),
        );
        let lines = || bytes.split(|byte| *byte == b'\n');
        if let Ok(peer) = proxies.speaks_for(name, lines()) {
            assert_eq!(peer, Peer::from(peer.address()));
        }
        let after = proxies.speaks_for(name, lines().chain([added]));
        // One line that cannot be taken apart makes the whole header worthless, where quotes may hold a comma.
        let worthless = told == Told::Forwarded && after == Err(Unclear::Unreadable(name));
        assert!(worthless || after == Ok(is_client), "{after:?}");
    }
}

/// Lines of what is configured, an empty line, and lines of headers: ours is one header line that equals one of the values.
pub fn authorization(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (values, offered) = text.split_once("\n\n").unwrap_or((&text, ""));
    let values: Vec<_> = values.lines().filter(|line| !line.is_empty()).collect();
    let offered: Vec<_> = offered.lines().collect();
    let ours = Authorization::new(
        values
            .iter()
            .map(|value| Secret::new((*value).to_owned()))
            .collect(),
    );
    let verdict = ours.judge(offered.iter().map(|line| line.as_bytes()));
    let expected = match offered.as_slice() {
        _ if values.is_empty() => Verdict::Ours,
        [] => Verdict::Missing,
        [one] if values.contains(one) => Verdict::Ours,
        _ => Verdict::Wrong,
    };
    assert_eq!(verdict, expected, "{values:?} {offered:?}");
}

/// A webhook's body: kept byte for byte or refused with all its bytes, and what is kept has an envelope.
pub fn envelope(bytes: &[u8]) {
    if let Some(id) = request_id_in(bytes) {
        assert!(
            (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        );
    }
    match Body::parse(bytes.to_vec()) {
        Ok(body) => {
            assert_eq!(body.as_str().as_bytes(), bytes);
            assert!(body.is_probe() == bytes.is_empty());
            assert!(body.is_probe() || Envelope::parse(body.as_str()).is_ok());
        }
        Err((_, kept)) => assert_eq!(kept, bytes),
    }
}

/// An answer of the API: objects with ids, each of them bytes of the answer, in their order.
pub fn page(bytes: &[u8]) {
    let Ok(page) = Page::parse(bytes.to_vec()) else {
        return;
    };
    let text = std::str::from_utf8(bytes).expect("a page is text");
    let mut from = 0;
    for item in page.items() {
        assert!(!item.id.is_empty());
        let at = text[from..].find(item.body).expect("bytes of the answer");
        from += at + item.body.len();
    }
}

/// The value of `Retry-After`: some time or none, and digits are seconds.
pub fn retry_after(bytes: &[u8]) {
    let value = String::from_utf8_lossy(bytes).into_owned();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let after = read_retry_after(&value, now);
    if !value.is_empty() && value.len() < 19 && value.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(after.map(|after| after.as_secs()), value.parse().ok());
    }
}

/// A configuration: settings, or an error that names the file.
pub fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match config::parse(&text, Path::new("gateway.toml"), &Surroundings::default()) {
        Ok(settings) => assert!(settings.listen.path.starts_with('/')),
        Err(error) => assert!(error.to_string().starts_with("gateway.toml"), "{error}"),
    }
}
