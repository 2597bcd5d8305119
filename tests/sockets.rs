//! Sockets that the service manager hands over: what is served, what waits while no gateway runs, and that a stop drops
//! nobody who was let in.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::sender::Sender;

use crate::vocabulary::{Gateway, LINK, PATH, Place, rest, text};

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// A place whose gateway gets this socket; we keep it open as well, as systemd does.
fn holding(place: Place, socket: &TcpListener) -> Place {
    place.handing_over(socket.try_clone().expect("a descriptor"), "belvo")
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_no_address_is_bound() {
    let held = socket();
    let place = holding(Place::new().listening_on("127.0.0.9:0"), &held);
    let gateway = place.start();
    assert_eq!(gateway.address, held.local_addr().expect("an address"));
    assert_eq!(gateway.answers(webhook()), 200);
    place.until_logged(&["serving", "handed over by the service manager"]);
    place.until_logged(&["listen.address names 127.0.0.9:0", "systemctl edit"]);
    // The local address, the other one, and 0A for one that listens.
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the list of sockets");
    let bound = |line: &&str| line.contains(": 0900007F:") && line.contains(" 00000000:0000 0A ");
    assert_eq!(sockets.lines().find(bound), None);
}

#[test]
fn several_sockets_are_served_and_without_any_the_gateway_binds_by_itself() {
    let held = socket();
    let place = Place::new().handing_over(held.try_clone().expect("a descriptor"), "belvo:belvo");
    assert_eq!(place.start().answers(webhook()), 200);
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    place.until_logged(&["serving"]);
    assert!(!place.log().contains("handed over"));
}

#[test]
fn what_connects_while_no_gateway_runs_is_answered_by_the_next() {
    let held = socket();
    let place = holding(Place::new(), &held);
    place.start().stop();
    let address = held.local_addr().expect("an address");
    let mut waiting = TcpStream::connect(address).expect("a connection");
    write_to(&mut waiting);
    let _gateway = place.start();
    assert!(text(&rest(waiting)).starts_with("HTTP/1.1 200 "));
}

fn write_to(stream: &mut TcpStream) {
    let body = webhook();
    let length = body.len();
    write!(
        stream,
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("a request");
}

#[test]
fn who_has_just_connected_when_sigterm_comes_is_answered() {
    let held = socket();
    let place = holding(Place::new(), &held);
    let mut gateway = place.start();
    let mut first = TcpStream::connect(gateway.address).expect("a connection");
    // Connections are accepted as they come: with the answer to the second one the first is accepted.
    assert_eq!(gateway.answers(webhook()), 200);
    stopping(&place, &gateway);
    write_to(&mut first);
    assert!(text(&rest(first)).starts_with("HTTP/1.1 200 "));
    assert!(gateway.ended().success());
}

#[test]
fn a_kept_connection_gets_one_more_answer_after_sigterm_which_says_that_it_is_the_last() {
    let held = socket();
    let place = holding(Place::new().with_tls(), &held);
    let mut gateway = place.start();
    let sender = gateway.sender();
    let (mut kept, mut fresh) = (connection(&sender), connection(&sender));
    let answer = kept.send(webhook().as_bytes()).expect("an answer");
    assert!(
        !answer.head.contains("connection: close"),
        "{}",
        answer.head
    );
    stopping(&place, &gateway);
    for open in [&mut kept, &mut fresh] {
        let answer = open.send(webhook().as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
    assert!(gateway.ended().success());
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 3);
}

fn connection(sender: &Sender) -> belvo_gateway::standin::sender::Connection<'_> {
    sender.connect().expect("a connection")
}

fn stopping(place: &Place, gateway: &Gateway<'_>) {
    gateway.signal("TERM");
    place.until_logged(&["stopping on SIGTERM"]);
}

#[test]
fn restarts_under_load_refuse_nobody_and_lose_nothing() {
    const RESTARTS: usize = 6;
    let held = socket();
    let place = holding(Place::new().with_tls(), &held);
    let mut gateway = place.start();
    let sender = gateway.sender();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let gateway = thread::scope(|scope| {
        for keeps in [false, true, false, true] {
            let (sender, over, answered) = (&sender, &over, &answered);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    answered.fetch_add(sends(sender, keeps), Ordering::SeqCst);
                }
            });
        }
        for restart in 1..=RESTARTS {
            while answered.load(Ordering::SeqCst) < restart * 40 {
                thread::yield_now();
            }
            assert!(gateway.stop().0.success());
            gateway = place.start();
        }
        over.store(true, Ordering::SeqCst);
        gateway
    });
    assert!(gateway.stop().0.success());
    let kept: i64 = place.value("SELECT count(*) FROM journal");
    assert_eq!(kept as usize, answered.into_inner());
}

/// One webhook on a connection of its own, or as many as one connection takes; all are answered 200.
fn sends(sender: &Sender, keeps: bool) -> usize {
    if !keeps {
        let answer = sender.send(webhook().as_bytes());
        assert_eq!(answer.expect("an answer").status, 200);
        return 1;
    }
    let mut connection = connection(sender);
    for sent in 1..=50 {
        let answer = connection.send(webhook().as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
        if answer.head.contains("connection: close") {
            return sent;
        }
    }
    50
}

#[test]
fn a_proxy_on_a_socket_that_is_handed_over_is_believed_as_on_our_own() {
    let held = socket();
    let proxied = Place::new()
        .allowing("203.0.113.7")
        .listening("trusted-proxies = [\"127.0.0.1\"]\nproxy = \"proxy-protocol\"");
    let place = holding(proxied, &held);
    let gateway = place.start();
    let line = b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n";
    let sender = gateway.sender().writing_first(line);
    let answer = sender.send(webhook().as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200);
}

#[test]
fn what_is_handed_over_and_cannot_be_served_is_exit_78_and_says_what_would_do() {
    let (held, directory) = (socket(), tempfile::tempdir().expect("a directory"));
    let connected = TcpStream::connect(held.local_addr().expect("an address"));
    let unix = UnixListener::bind(directory.path().join("s")).expect("a socket");
    let cases: [(OwnedFd, &'static str, &str); 6] = [
        (
            socket().into(),
            "belvo-gateway.socket",
            "hands over \"belvo-gateway.socket\", which the gateway does not know",
        ),
        (socket().into(), "belvo:other", "hands over \"other\""),
        (
            connected.expect("a connection").into(),
            "belvo",
            "which does not listen",
        ),
        (
            UdpSocket::bind("127.0.0.1:0").expect("a port").into(),
            "belvo",
            "which is no TCP socket",
        ),
        (unix.into(), "belvo", "which is no TCP socket"),
        (
            File::open("/dev/null").expect("a file").into(),
            "belvo",
            "which is no socket",
        ),
    ];
    for (what, names, expected) in cases {
        let output = Place::new().handing_over(what, names).fails_to_start();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(expected), "no {expected:?} in {said}");
        assert!(said.contains("socket unit"), "{said}");
    }
}

#[test]
fn without_tls_a_socket_that_others_can_reach_is_refused() {
    let open = TcpListener::bind("0.0.0.0:0").expect("a port");
    let output = Place::new().handing_over(open, "belvo").fails_to_start();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("the service manager hands over 0.0.0.0:"),
        "{said}"
    );
    assert!(
        said.contains("systemctl edit belvo-gateway.socket"),
        "{said}"
    );
}
