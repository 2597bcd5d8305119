//! Hostile senders, from an allowed address and from a stranger's: what they get, and that they cost nobody else anything.

mod requests;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::sender::Sender;

use crate::vocabulary::{Gateway, LINK, PATH, Place, rest, skipped, text};
use requests::Request;

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

fn journalled(place: &Place) -> i64 {
    place.value("SELECT count(*) FROM journal")
}

/// Sends it on a connection of its own and says everything that comes back, and what the next request is answered.
fn tried(sender: &Sender, request: &Request) -> (String, u16) {
    let mut connection = sender.connect().expect("a connection");
    // Who is answered before everything was written may be unable to write the rest.
    drop(connection.write(&request.bytes));
    let said = text(&connection.rest());
    let next = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut connection = sender.connect().expect("a connection");
    let reply = connection.send_raw(next.as_bytes()).expect("an answer");
    (said, reply.status)
}

/// Sends all of them, and judges each by what came back.
fn all_are_tried(gateway: &Gateway<'_>, requests: &[Request], judge: impl Fn(&str, &str) + Sync) {
    // As many at once as have a seat for certain.
    const AT_ONCE: usize = 32;
    let sender = gateway.sender();
    for some in requests.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for request in some {
                scope.spawn(|| {
                    let (said, next) = tried(&sender, request);
                    judge(request.name, &said);
                    assert_eq!(next, 200, "after {}", request.name);
                });
            }
        });
    }
}

fn none_is_answered_200_or_kept(place: &Place) {
    let gateway = place.start();
    let requests = requests::refused();
    assert!(requests.len() >= 50);
    all_are_tried(&gateway, &requests, |name, said| {
        assert!(!said.contains(" 200 "), "{name}: {said}");
        assert!(said.matches("HTTP/1.").count() <= 1, "{name}: {said}");
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.0 4"),
            "{name}: {said}"
        );
    });
    assert_eq!(journalled(place), 0);
    assert_eq!(gateway.answers(webhook()), 200);
    assert_eq!(journalled(place), 1);
    assert!(gateway.stop().0.success());
    assert!(!place.log().contains("panic"), "{}", place.log());
}

#[test]
fn no_malformed_oversized_or_smuggling_request_is_answered_200_or_kept() {
    none_is_answered_200_or_kept(&Place::new());
}

#[test]
fn no_malformed_oversized_or_smuggling_request_is_answered_200_or_kept_over_tls() {
    none_is_answered_200_or_kept(&Place::new().with_tls());
}

#[test]
fn what_is_unusual_and_in_order_is_served() {
    let place = Place::new();
    let gateway = place.start();
    let requests = requests::served();
    all_are_tried(&gateway, &requests, |name, said| {
        assert!(
            said.starts_with("HTTP/1.") && said.contains(" 200 "),
            "{name}: {said}"
        );
    });
    assert_eq!(journalled(&place), requests.len() as i64);
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM journal WHERE body = '{\"a\":1}'"),
        requests.len() as i64
    );
}

#[test]
fn who_asks_to_be_told_to_go_on_is_told_and_served() {
    let place = Place::new();
    let gateway = place.start();
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a head");
    let mut told = [0; 25];
    stream.read_exact(&mut told).expect("an answer");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"a\":1}").expect("a body");
    assert!(text(&rest(stream)).starts_with("HTTP/1.1 200 "));
}

#[test]
fn requests_that_are_sent_before_the_answer_are_answered_one_after_the_other() {
    let place = Place::new();
    let gateway = place.start();
    let one = |body: &str, end: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{end}\r\n{body}",
            body.len()
        )
    };
    let look = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let requests = one("{\"a\":1}", "")
        + &look
        + &one("{\"b\":2}", "")
        + &one("{\"c\":3}", "Connection: close\r\n");
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    // In pieces that end anywhere, and as one.
    for piece in requests.as_bytes().chunks(7) {
        stream.write_all(piece).expect("a piece");
    }
    assert_eq!(text(&rest(stream)).matches("HTTP/1.1 200 ").count(), 4);
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    stream
        .write_all(requests.as_bytes())
        .expect("four requests");
    assert_eq!(text(&rest(stream)).matches("HTTP/1.1 200 ").count(), 4);
    let bodies = ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"].map(str::to_owned);
    assert_eq!(
        place.column::<String>("SELECT body FROM journal"),
        [bodies.clone(), bodies].concat()
    );
}

#[test]
fn who_sends_all_and_closes_that_side_gets_the_answer() {
    let place = Place::new();
    let gateway = place.start();
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    let request =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}");
    stream.write_all(request.as_bytes()).expect("a request");
    stream.shutdown(Shutdown::Write).expect("a half");
    assert!(text(&rest(stream)).starts_with("HTTP/1.1 200 "));
}

/// Opens a connection and says this on it, and no more.
fn begins(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("a connection");
    // It may have been closed for the next one already.
    drop(stream.write_all(bytes));
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream
}

/// Silent, slow in the head, slow in the body, and idle after an answer: as many of each.
fn offenders(to: SocketAddr, of_each: usize) -> Vec<TcpStream> {
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n");
    let body = format!("{head}Content-Length: 100\r\n\r\n{{");
    let idle = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let kinds = ["", &head, &body, &idle];
    (0..4 * of_each)
        .map(|number| begins(to, kinds[number % 4].as_bytes()))
        .collect()
}

/// Gives a process other limits of open files, soft and hard; an empty one stays as it is.
fn limits_descriptors(process: u32, limits: &str) -> bool {
    let status = Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--nofile={limits}")])
        .status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn slow_silent_and_idle_connections_keep_nobody_out_and_are_closed() {
    if !limits_descriptors(std::process::id(), "4096:") {
        return skipped("no prlimit, or no more descriptors to be had for so many connections");
    }
    let place = Place::new();
    let gateway = place.start();
    let belvo = gateway.sender();
    let mut kept = belvo.connect().expect("a connection");
    assert_eq!(
        kept.send(webhook().as_bytes()).expect("an answer").status,
        200
    );
    let mut held = Vec::new();
    for _ in 0..10 {
        held.extend(offenders(gateway.address, 35));
        // From the very address that they come from, on a new connection and on one that is used all the time.
        assert_eq!(
            belvo.send(webhook().as_bytes()).expect("an answer").status,
            200
        );
        assert_eq!(
            kept.send(webhook().as_bytes()).expect("an answer").status,
            200
        );
    }
    assert_eq!(held.len(), 1_400);
    let begun = Instant::now();
    for stream in held {
        rest(stream);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(journalled(&place), 21);
    place.until_logged(&["reason=\"crowded\"", "127.0.0.1"]);
}

#[test]
fn sixty_four_connections_from_one_address_are_kept_and_served_beside_those_who_come_and_go() {
    let place = Place::new();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut kept: Vec<_> = (0..64)
        .map(|_| sender.connect().expect("a connection"))
        .collect();
    for _ in 0..3 {
        for connection in &mut kept {
            assert_eq!(
                connection
                    .send(webhook().as_bytes())
                    .expect("an answer")
                    .status,
                200
            );
        }
        assert_eq!(
            sender.send(webhook().as_bytes()).expect("an answer").status,
            200
        );
    }
    assert_eq!(journalled(&place), 3 * 65);
}

#[test]
fn who_takes_no_answers_is_closed_and_keeps_nobody_out() {
    let place = Place::new();
    let gateway = place.start();
    let look = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1_000);
    let mut stream = begins(gateway.address, b"");
    stream
        .set_write_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    let begun = Instant::now();
    // Requests go out and no answer is read, until the gateway reads no more, waits, and closes.
    while stream.write_all(look.as_bytes()).is_ok() {}
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(gateway.answers(webhook()), 200);
}

#[test]
fn out_of_descriptors_it_waits_makes_room_and_says_so() {
    let place = Place::new();
    let gateway = place.start();
    // What the gateway opens at its start is open once this is planned.
    assert_eq!(gateway.answers(webhook()), 200);
    place.until_logged(&["webhook planned", "seq=1"]);
    if !limits_descriptors(gateway.id(), "40:40") {
        return skipped("no prlimit, so the gateway has all the descriptors it wants");
    }
    let silent: Vec<_> = (0..50).map(|_| begins(gateway.address, b"")).collect();
    let (begun, used) = (Instant::now(), gateway.cpu());
    for _ in 0..5 {
        assert_eq!(gateway.answers(webhook()), 200);
    }
    place.until("SELECT count(*) FROM attention WHERE kind = 'trouble'", 1);
    let (took, used) = (begun.elapsed(), gateway.cpu() - used);
    assert!(used < took / 2, "{used:?} of {took:?}: it spins");
    drop(silent);
}

#[test]
fn many_large_bodies_at_once_are_503_and_not_the_memory_of_the_box() {
    let place = Place::new();
    let gateway = place.start();
    let body = format!("{{\"a\":\"{}\"}}", "a".repeat(1_000_000));
    let sender = gateway.sender();
    let replies: Vec<_> = thread::scope(|scope| {
        let sent: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| sender.send(body.as_bytes())))
            .collect();
        sent.into_iter()
            .map(|reply| reply.join().expect("a sender").expect("an answer"))
            .collect()
    });
    for reply in &replies {
        let may_try_again = reply.head.to_lowercase().contains("retry-after: ");
        assert!(
            reply.status == 200 || reply.status == 503 && may_try_again,
            "{}",
            reply.head
        );
    }
    let kept = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(journalled(&place), kept as i64);
    assert!(gateway.peak_kib() < 64 * 1024, "{} KiB", gateway.peak_kib());
    assert_eq!(gateway.answers(webhook()), 200);
}

#[test]
fn a_panic_costs_one_connection_and_is_counted() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    let mut other = gateway.sender();
    other = other.from(IpAddr::from([127, 0, 0, 2]));
    let mut kept = other.connect().expect("a connection");
    assert_eq!(
        kept.send(webhook().as_bytes()).expect("an answer").status,
        200
    );
    // Once these are served, nothing is under way on the kept connection any more.
    assert_eq!([(); 3].map(|()| gateway.answers(webhook())), [200; 3]);
    place.break_disk("fail-clock");
    // The end of a connection before may look at the clock, too; then it is that one's panic.
    let panicked = (0..2).any(|_| gateway.sender().send(webhook().as_bytes()).is_err());
    assert!(panicked);
    assert_eq!(
        kept.send(webhook().as_bytes()).expect("an answer").status,
        200
    );
    assert_eq!(gateway.answers(webhook()), 200);
    place.until("SELECT value FROM meta WHERE key = 'refused.panic'", 1);
    place.until_logged(&["WARN", "reason=\"panic\""]);
}

/// How many connections a stranger makes, and how many of them were ended without a byte.
fn flood(to: SocketAddr, connections: usize) -> usize {
    let stranger = Sender::plain(to, PATH).from(IpAddr::from([127, 0, 0, 66]));
    (0..connections)
        .filter(|_| match stranger.connect() {
            Ok(connection) => connection.rest().is_empty(),
            // It was ended before it was seen to be there.
            Err(_) => true,
        })
        .count()
}

#[test]
fn a_flood_of_strangers_delays_no_webhook_and_fills_neither_the_log_nor_the_file() {
    const FLOOD: usize = 2_000;
    let place = Place::new().allowing("127.0.0.1");
    let gateway = place.start();
    thread::scope(|scope| {
        let flooding: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| flood(gateway.address, FLOOD / 4)))
            .collect();
        let mut sent = 0;
        while flooding.iter().any(|one| !one.is_finished()) || sent < 10 {
            assert_eq!(gateway.answers(webhook()), 200);
            sent += 1;
        }
        let ended: usize = flooding
            .into_iter()
            .map(|one| one.join().expect("a flood"))
            .sum();
        assert_eq!((ended, journalled(&place)), (FLOOD, sent));
    });
    assert!(gateway.stop().0.success());
    assert_eq!(
        place.value::<i64>("SELECT value FROM meta WHERE key = 'refused.source'"),
        FLOOD as i64
    );
    let rows = place.value::<i64>("SELECT count(*) FROM refusals");
    assert!(rows <= 3, "{rows} rows about one stranger in a few seconds");
    let log = place.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(" INFO ") && lines[0].contains(&format!("source {FLOOD}")),
        "{log}"
    );
}

#[test]
fn of_many_refused_requests_a_few_have_a_line_and_the_rest_a_sum() {
    let place = Place::new();
    let gateway = place.start();
    let elsewhere = Sender::plain(gateway.address, "/elsewhere");
    for _ in 0..50 {
        assert_eq!(elsewhere.send(b"{}").expect("an answer").status, 404);
    }
    assert!(gateway.stop().0.success());
    let log = place.log();
    let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!(
        (lines("reason=\"path\""), lines("of its own: path 40;")),
        (10, 1),
        "{log}"
    );
    assert_eq!(
        place.value::<i64>("SELECT value FROM meta WHERE key = 'refused.path'"),
        50
    );
}

#[test]
fn the_body_of_a_refused_request_is_not_waited_for() {
    let place = Place::new().with_authorization();
    let gateway = place.start();
    let post =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    for (request, status) in [(post(PATH), "401"), (post("/elsewhere"), "404")] {
        let mut stream = begins(gateway.address, request.as_bytes());
        let mut said = [0; 12];
        // The body never comes, and the answer does.
        stream.read_exact(&mut said).expect("an answer");
        assert_eq!(text(&said), format!("HTTP/1.1 {status}"));
    }
}

/// Every secret that a gateway can have, each unlike anything else.
const API_ID: &str = "2f0c61d9-api-id-b74e";
const API_PASSWORD: &str = "Zq8-api-password-W3";
const VALUE: &str = "Bearer 9d4e-webhook-authorization-51c7";

/// What must not be found anywhere: the secrets, what they look like on the way, and the lines of the TLS key.
fn needles(place: &Place) -> Vec<String> {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let key = std::fs::read_to_string(place.path("tls/localhost.key")).expect("a key");
    let lines = key.lines().filter(|line| !line.starts_with("-----"));
    let needles: Vec<_> = [API_ID, API_PASSWORD, VALUE, "9d4e-webhook-authorization"]
        .map(str::to_owned)
        .into_iter()
        .chain([BASE64_STANDARD.encode(format!("{API_ID}:{API_PASSWORD}"))])
        .chain(lines.map(str::to_owned))
        .collect();
    assert!(
        needles.len() > 6 && needles.iter().all(|needle| needle.len() > 10),
        "{needles:?}"
    );
    needles
}

/// All that a gateway leaves for others to see while it runs.
fn seen(place: &Place, gateway: &Gateway<'_>) -> Vec<(String, Vec<u8>)> {
    let process = ["environ", "cmdline"].map(|file| format!("/proc/{}/{file}", gateway.id()));
    let state = std::fs::read_dir(place.state()).expect("a state directory");
    let state = state.map(|file| file.expect("a file").path().display().to_string());
    let log = place.path("log").display().to_string();
    let files = process.into_iter().chain(state).chain([log]);
    // The control socket is no file to read.
    files
        .filter_map(|file| Some((file.clone(), std::fs::read(file).ok()?)))
        .collect()
}

#[test]
fn no_secret_is_in_the_log_the_file_the_environment_or_the_arguments_whatever_fails() {
    // It knows other keys, so ours are refused.
    let belvo = crate::vocabulary::belvo();
    let place = Place::new()
        .with_tls()
        .with_authorization()
        .fetching_from(&belvo)
        .on_a_bad_disk()
        .logging_everything();
    for (file, secret) in [
        ("id", API_ID),
        ("password", API_PASSWORD),
        ("authorization", VALUE),
    ] {
        place.secret(file, secret);
    }
    let gateway = place.start();
    let sender = gateway.sender().authorization(VALUE);
    let status = |sender: &Sender| {
        sender
            .send(webhook().as_bytes())
            .map(|reply| reply.status)
            .ok()
    };
    assert_eq!(status(&sender), Some(200));
    for wrong in [
        &VALUE[..VALUE.len() - 1],
        &format!("{VALUE}x"),
        &format!("{VALUE}, {VALUE}"),
        "Basic x",
    ] {
        assert_eq!(
            status(&gateway.sender().authorization(wrong)),
            Some(401),
            "{wrong}"
        );
    }
    for request in requests::refused() {
        let head = format!("\r\nAuthorization: {VALUE}\r\n");
        let bytes = text(&request.bytes).replacen("\r\n", &head, 1).into_bytes();
        let mut connection = sender.connect().expect("a connection");
        drop(connection.write(&bytes[..bytes.len().min(40 * 1024)]));
    }
    assert_eq!(sender.send(b"{\"cut\":").expect("an answer").status, 400);
    begins(gateway.address, b"no TLS at all\r\n\r\n");
    place.break_disk("fail-sync");
    assert_eq!(status(&sender), Some(503));
    place.mend_disk("fail-sync");
    place.break_disk("fail-clock");
    assert_ne!(
        status(&sender),
        Some(503),
        "a panic, or a 200 when the end of a connection had it"
    );
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'api-keys-refused'",
        1,
    );
    // A 200 has closed it again.
    place.until(
        "SELECT count(DISTINCT kind) FROM problems WHERE kind = 'authorization-mismatch'",
        1,
    );
    let (needles, seen) = (needles(&place), seen(&place, &gateway));
    let is_in = |needle: &str, bytes: &[u8]| {
        let mut windows = bytes.windows(needle.len());
        windows.any(|window| window == needle.as_bytes())
    };
    // What is not secret is found: the search would find the rest.
    for known in [LINK, "api-keys-refused", "LD_PRELOAD", "serve\0--config"] {
        assert!(seen.iter().any(|(_, bytes)| is_in(known, bytes)), "{known}");
    }
    for (file, bytes) in seen {
        for needle in &needles {
            assert!(!is_in(needle, &bytes), "{needle} is in {file}");
        }
    }
}

#[test]
fn a_connection_brings_ten_thousand_requests_and_the_last_answer_says_so() {
    let place = Place::new();
    let gateway = place.start();
    let stream = TcpStream::connect(gateway.address).expect("a connection");
    let mut writing = stream.try_clone().expect("the same connection");
    let look = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = thread::scope(|scope| {
        // The last of them may find the connection closed.
        scope.spawn(move || (0..10_100).all(|_| writing.write_all(look.as_bytes()).is_ok()));
        text(&rest(stream)).to_lowercase()
    });
    assert_eq!(said.matches("http/1.1 200 ").count(), 10_000);
    let (_, last) = said.rsplit_once("http/1.1 ").expect("an answer");
    assert_eq!(said.matches("connection: close").count(), 1);
    assert!(last.contains("connection: close"), "{last}");
}
