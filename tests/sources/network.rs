//! Belvo's three real addresses and many that are not, in a network of our own: two namespaces and a pair of virtual
//! interfaces between them. The gateway sees true source addresses, as on the Internet. The test runs itself again in
//! the namespace of the senders, so that nothing of the machine's own network is touched; it needs root and `ip`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use belvo_gateway::standin::sender::{Sender, Step};

use super::{kept, second_version, until_problem, webhook};
use crate::vocabulary::{AUTHORIZATION, Gateway, PATH, Place, skipped, text};

/// The test's own name, for running it again.
const NAME: &str = "sources::network::belvos_three_addresses_are_served_and_nobody_else_gets_in";
/// Set in the run that is in the senders' namespace.
const INSIDE: &str = "BELVO_GATEWAY_TEST_INSIDE";
/// Set in a run that sends one webhook from the gateway's own namespace: where to, and the authority's file.
const SEND_TO: &str = "BELVO_GATEWAY_TEST_SEND_TO";
const CA_FILE: &str = "BELVO_GATEWAY_TEST_CA_FILE";

/// Belvo's, as its documents name them.
const BELVO: [&str; 3] = ["3.130.254.46", "18.220.61.186", "18.223.45.212"];
/// The box, in its own namespace.
const BOX: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
/// Others on the senders' side: neighbours of Belvo's, strangers, private addresses, and IPv6 that holds Belvo's IPv4.
const STRANGERS: [&str; 20] = [
    "3.130.254.45",
    "3.130.254.47",
    "18.220.61.187",
    "18.220.62.186",
    "18.223.45.213",
    "46.254.130.3",
    "8.8.8.8",
    "203.0.113.7",
    "192.0.2.1",
    "10.0.0.1",
    "10.130.254.46",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.1.1",
    "2001:db8:1::1",
    "2600:1f16::46",
    "64:ff9b::382:fe2e",
    "2002:382:fe2e::1",
    "fd00::382:fe2e",
];
/// Who claims to be Belvo.
const LIAR: &str = "203.0.113.99";

/// The senders' side is the namespace that this runs in; the box is another one. Its mounts are its own, too.
fn make_network() {
    let mut script =
        "set -e; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; ip netns add box
        ip link add wan type veth peer name lan netns box; ip link set lo up; ip link set wan up
        ip -n box link set lo up; ip -n box link set lan up
        ip -n box addr add 192.0.2.10/24 dev lan; ip -n box addr add 2001:db8:1::10/64 dev lan nodad
        ip -n box route add default dev lan; ip -n box -6 route add default dev lan
        ip route add 192.0.2.10/32 dev wan; ip -6 route add 2001:db8:1::10/128 dev wan\n"
            .to_owned();
    for address in BELVO.iter().chain(&STRANGERS).chain([&LIAR]) {
        let (length, flags) = match address.contains(':') {
            true => (128, "nodad"),
            false => (32, ""),
        };
        script += &format!("ip addr add {address}/{length} dev wan {flags}\n");
    }
    let made = Command::new("sh").args(["-c", &script]).status();
    assert!(made.expect("sh runs").success(), "no network was made");
}

#[test]
fn belvos_three_addresses_are_served_and_nobody_else_gets_in() {
    if let Ok(to) = std::env::var(SEND_TO) {
        return send_from_inside(&to);
    }
    if std::env::var_os(INSIDE).is_some() {
        make_network();
        for listener in ["0.0.0.0:0", "[::]:0"] {
            the_three_are_served_and_all_others_closed_on_unread(listener);
        }
        a_look_answers_403_at_most_and_a_new_address_of_belvos_is_reported();
        return;
    }
    if let Some(why) = unable() {
        return skipped(&why);
    }
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount"]).arg(myself());
    let output = again
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output();
    let output = output.expect("unshare runs");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// Why there can be no such network here.
fn unable() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "ip", "link", "set", "lo", "up"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "no network namespaces: {}",
            text(&output.stderr).trim()
        )),
        Err(error) => Some(format!("no network namespaces: unshare: {error}")),
    }
}

fn myself() -> std::path::PathBuf {
    std::env::current_exe().expect("a running test")
}

/// A gateway that listens on all addresses of the box, with what Belvo's dashboard would be told.
fn on_the_box(listener: &str) -> Place {
    Place::new()
        .with_tls()
        .with_authorization()
        .allowing_by_default()
        .listening_on(listener)
        .in_network("box")
}

fn the_three_are_served_and_all_others_closed_on_unread(listener: &str) {
    let place = on_the_box(listener).listening("drift-alarm = false");
    let gateway = place.start();
    for (nth, belvo) in BELVO.iter().enumerate() {
        let reply = sender(&gateway, belvo).send(webhook().as_bytes());
        assert_eq!(
            reply
                .unwrap_or_else(|error| panic!("{belvo}: {error}"))
                .status,
            200,
            "{belvo}"
        );
        assert_eq!(kept(&place), nth as i64 + 1);
    }
    let peers = place.column::<String>("SELECT peer FROM journal");
    assert_eq!(peers, BELVO, "as they are, and not as IPv6");
    let mut impostors = 0;
    for stranger in reachable(listener, &STRANGERS) {
        refused_unread(&gateway, stranger, |sender| sender);
        impostors += 1;
    }
    for claim in claims() {
        refused_unread(&gateway, LIAR, &*claim);
        impostors += 1;
    }
    for inside in reachable(listener, &["127.0.0.1", "::1", BOX[0], BOX[1]]) {
        let to = SocketAddr::new(inside.parse().expect("an address"), gateway.address.port());
        let said = said_inside(&place, to);
        assert!(
            said.contains("refused at Connect") || said.contains("refused at Handshake"),
            "{inside}: {said}"
        );
        impostors += 1;
    }
    assert!(impostors >= 20, "{impostors}");
    assert_eq!(kept(&place), 3);
    // Each of them was counted; over IPv6, too.
    place.until(
        "SELECT value >= 20 FROM meta WHERE key = 'refused.source'",
        1,
    );
    assert!(!place.log().contains("was refused"), "{}", place.log());
}

/// What the liar writes in front of or into its request.
type Claim = Box<dyn Fn(Sender) -> Sender>;

fn claims() -> [Claim; 6] {
    let [first, second, third] = BELVO;
    [
        Box::new(move |sender| sender.header(&format!("X-Forwarded-For: {first}"))),
        Box::new(move |sender| sender.header(&format!("X-Forwarded-For: {LIAR}, {second}"))),
        Box::new(move |sender| sender.header(&format!("Forwarded: for={third};proto=https"))),
        Box::new(move |sender| sender.header(&format!("X-Real-IP: {first}"))),
        Box::new(move |sender| {
            let line = format!("PROXY TCP4 {first} 192.0.2.10 40000 8443\r\n");
            sender.writing_first(line.as_bytes())
        }),
        Box::new(|sender| sender.writing_first(&second_version(0x21, [3, 130, 254, 46]))),
    ]
}

/// Those addresses that can reach this listener.
fn reachable<'a>(listener: &str, addresses: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let both = listener.starts_with('[');
    addresses
        .iter()
        .copied()
        .filter(move |address| both || !address.contains(':'))
}

/// Somebody at this address, over TLS and with the right authorization.
fn sender(gateway: &Gateway<'_>, from: &str) -> Sender {
    gateway
        .sender_to(the_box(gateway, from))
        .from(from.parse().expect("an address"))
}

fn the_box(gateway: &Gateway<'_>, from: &str) -> SocketAddr {
    let ip: IpAddr = BOX[usize::from(from.contains(':'))]
        .parse()
        .expect("an address");
    SocketAddr::new(ip, gateway.address.port())
}

/// With TLS there is no handshake, and whatever else is written, not a byte comes back.
fn refused_unread(gateway: &Gateway<'_>, from: &str, claim: impl Fn(Sender) -> Sender) {
    let refused = claim(sender(gateway, from)).send(webhook().as_bytes());
    let refused = refused.expect_err(from);
    assert!(
        matches!(refused.step, Step::Connect | Step::Handshake),
        "{from}: {refused}"
    );
    let plain = Sender::plain(the_box(gateway, from), PATH).from(from.parse().expect("an address"));
    if let Ok(mut connection) = claim(plain).connect() {
        // Who is closed on at once may be unable to write.
        drop(connection.write(b"GET /belvo/webhooks HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(connection.rest(), b"", "{from}");
    }
}

/// What became of a webhook that was sent from the gateway's own namespace.
fn said_inside(place: &Place, to: SocketAddr) -> String {
    let output = Command::new("ip")
        .args(["netns", "exec", "box"])
        .arg(myself())
        .args(["--exact", NAME, "--nocapture"])
        .env(SEND_TO, to.to_string())
        .env(CA_FILE, place.path("tls").join("ca.pem"))
        .output()
        .expect("ip runs");
    text(&output.stdout) + &text(&output.stderr)
}

fn send_from_inside(to: &str) {
    let ca_file = std::env::var(CA_FILE).expect("a file");
    let to: SocketAddr = to.parse().expect("an address");
    let sender = Sender::tls(to, PATH, Path::new(&ca_file)).expect("TLS");
    match sender
        .from(to.ip())
        .authorization(AUTHORIZATION)
        .send(webhook().as_bytes())
    {
        Ok(reply) => println!("answered {}", reply.status),
        Err(refused) => println!("refused at {:?}", refused.step),
    }
}

fn a_look_answers_403_at_most_and_a_new_address_of_belvos_is_reported() {
    let place = on_the_box("[::]:0");
    let gateway = place.start();
    let reply = sender(&gateway, "8.8.8.8").send(webhook().as_bytes());
    assert_eq!(reply.expect("a look").status, 403);
    let problem = until_problem(&place, "source-drift", "8.8.8.8");
    let line = r#"allow = ["3.130.254.46", "18.220.61.186", "18.223.45.212", "8.8.8.8"]"#;
    assert!(
        problem.contains("Belvo now seems to send from 8.8.8.8") && problem.contains(line),
        "{problem}"
    );
    // The budget may grant another look meanwhile, to one of them at a time.
    for stranger in STRANGERS {
        for claim in claims() {
            let status = claim(sender(&gateway, stranger)).send(webhook().as_bytes());
            assert!(
                status.as_ref().map_or(403, |reply| reply.status) == 403,
                "{stranger}: {status:?}"
            );
        }
    }
    assert_eq!(
        sender(&gateway, BELVO[0])
            .send(webhook().as_bytes())
            .expect("an answer")
            .status,
        200
    );
    assert_eq!(kept(&place), 1);
}
