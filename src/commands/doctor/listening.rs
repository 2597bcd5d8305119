//! Where the gateway listens, whether anybody listens there now, and whom it would let in, by the rules it serves by. It
//! connects to nothing: each connection from here would be counted as a stranger's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fs, iter};

use super::Finding;
use crate::config::{BELVO_SOURCES, Settings};
use crate::gateway;
use crate::intake::auth::Authorization;
use crate::intake::rules::{Caller, Judged, Rules};
use crate::intake::source::Peer;

/// Addresses that are nobody's (RFC 5737, RFC 3849) and a well-known one that is not Belvo's.
const STRANGERS: [&str; 3] = ["203.0.113.7", "2001:db8::7", "8.8.8.8"];

/// How the kernel writes that a socket listens.
const LISTENS: &str = "0A";

pub(super) fn look(settings: &Settings, has_socket: bool) -> Vec<Finding> {
    let listening = listening();
    let mut findings: Vec<_> = settings
        .listen
        .addresses
        .iter()
        .map(|address| listens(*address, &listening, has_socket))
        .collect();
    let rules = gateway::rules(settings, Authorization::default());
    findings.push(belvo(&rules));
    findings.extend(strangers(&rules));
    if settings.listen.authorization_file.is_none() {
        findings.push(Finding::warning(
            "authorization",
            "no Authorization value is configured: the source address alone decides who may speak",
            "set one in Belvo's dashboard and as the credential webhook-authorization",
        ));
    }
    findings
}

fn listens(address: SocketAddr, listening: &[SocketAddr], has_socket: bool) -> Finding {
    const CHECK: &str = "listen";
    let is_it = |other: &&SocketAddr| {
        other.port() == address.port()
            && (other.ip().is_unspecified()
                || other.ip().to_canonical() == address.ip().to_canonical())
    };
    if listening.iter().any(|other| is_it(&other)) {
        Finding::ok(CHECK, format!("somebody listens on {address}"))
    } else if has_socket {
        let said =
            format!("nobody listens on {address}; systemd holds the sockets, see unit-socket");
        Finding::ok(CHECK, said)
    } else {
        Finding::warning(
            CHECK,
            format!("nobody listens on {address}"),
            "start the gateway: systemctl start belvo-gateway; if it does not stay up, journalctl -u belvo-gateway says why",
        )
    }
}

/// Whether Belvo is let in from where it says that it sends. Behind a proxy its address is the one that the proxy names.
fn belvo(rules: &Rules) -> Finding {
    const CHECK: &str = "source-belvo";
    let refused: Vec<_> = BELVO_SOURCES
        .into_iter()
        .filter(|text| !allows(rules, text))
        .collect();
    let next =
        "take it into [listen] allow, or leave allow out: then it is Belvo's three addresses";
    if refused.is_empty() {
        Finding::ok(CHECK, format!("let in: {}", BELVO_SOURCES.join(", ")))
    } else if refused.len() < BELVO_SOURCES.len() {
        let said = format!(
            "not let in, though Belvo sends from there: {}",
            refused.join(", ")
        );
        Finding::warning(CHECK, said, next)
    } else {
        let said = format!(
            "none of Belvo's addresses is let in: {}",
            refused.join(", ")
        );
        Finding::broken(CHECK, said, next)
    }
}

fn strangers(rules: &Rules) -> iter::Once<Finding> {
    const CHECK: &str = "source-strangers";
    let let_in: Vec<_> = STRANGERS
        .into_iter()
        .filter(|text| allows(rules, text))
        .collect();
    iter::once(match let_in.is_empty() {
        true => Finding::ok(
            CHECK,
            format!("refused, for example: {}", STRANGERS.join(", ")),
        ),
        false => Finding::warning(
            CHECK,
            format!("strangers are let in, for example {}", let_in.join(", ")),
            "make [listen] allow narrower; belvo-gateway check --explain ADDRESS says how one is judged",
        ),
    })
}

/// Whether a request from there may speak: from its own address, or from the one that a trusted proxy names.
fn allows(rules: &Rules, text: &str) -> bool {
    text.parse().is_ok_and(|address: IpAddr| {
        let peer = Peer::of(SocketAddr::new(address, 0));
        let caller = Caller::named(peer);
        matches!(rules.judge(caller, |_| iter::empty()), Judged::Allowed(_))
    })
}

/// The addresses that somebody listens on, by the kernel's list.
fn listening() -> Vec<SocketAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let text = read("/proc/net/tcp") + &read("/proc/net/tcp6");
    text.lines().filter_map(listener).collect()
}

/// `0: 0100007F:20FB 00000000:0000 0A ...`: the address in words of the machine's own byte order.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != LISTENS {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at * 8)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernels_list_is_read_as_it_is_written() {
        let read = |line: &str| listener(line).map(|address| address.to_string());
        let rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 628 1";
        let four = format!("   1: 0100007F:20FB {rest}");
        assert_eq!(read(&four).as_deref(), Some("127.0.0.1:8443"));
        let six = format!("   0: 00000000000000000000000001000000:20FB {rest}");
        assert_eq!(read(&six).as_deref(), Some("[::1]:8443"));
        assert_eq!(read(&four.replace(" 0A ", " 01 ")), None);
        assert_eq!(read("  sl  local_address rem_address   st tx_queue"), None);
    }
}
