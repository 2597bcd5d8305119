//! Whom a trusted proxy speaks for, by the header lines it sent: the right-most hop that is no trusted proxy. What stands
//! to the left of that hop was written by a stranger and is not believed; a hop that cannot be judged is not skipped,
//! because whoever it hides could have written everything before it. Pure. Knows no sockets and no HTTP library.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::source::{AllowList, Peer};
use crate::limits::HOPS_MAX;

/// How the trusted proxies tell whom they speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// In front of everything else on a connection.
    ProxyProtocol,
    /// With each request, in `X-Forwarded-For`.
    XForwardedFor,
    /// With each request, in `Forwarded` (RFC 7239).
    Forwarded,
}

impl Told {
    /// The header that tells it, if one does; in lower case.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::ProxyProtocol => None,
            Self::XForwardedFor => Some("x-forwarded-for"),
            Self::Forwarded => Some("forwarded"),
        }
    }
}

/// Headers that speak for somebody else, in lower case. From whoever is no trusted proxy they count for nothing.
pub const FORWARDED_HEADERS: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// The proxies whose word counts, and how they give it.
#[derive(Clone, Debug)]
pub struct Proxies {
    trusted: AllowList,
    told: Told,
}

/// Why it cannot be said whom a trusted proxy speaks for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unclear {
    /// The header that is configured is not there.
    #[error("the request has no header {0}")]
    NoHeader(&'static str),
    /// The connection does not begin as the PROXY protocol says.
    #[error("the connection does not begin with a line of the PROXY protocol")]
    NoProxyLine,
    /// The connection begins with a PROXY line, and a header was expected.
    #[error(
        "the connection begins with a line of the PROXY protocol, which listen.proxy does not say"
    )]
    UnexpectedProxyLine,
    /// A PROXY line that cannot be read, is too long, or is about something else than a TCP connection.
    #[error("the line of the PROXY protocol cannot be read")]
    BadProxyLine,
    /// A PROXY line that names nobody.
    #[error("the line of the PROXY protocol names no address")]
    EmptyProxyLine,
    /// Something that should be an address is none, or the header does not follow its grammar.
    #[error("the header {0} holds something that is no address")]
    Unreadable(&'static str),
    /// A hop that does not want to be known.
    #[error("the header {0} names a hop as \"unknown\" or by a made-up name")]
    Hidden(&'static str),
    /// More trusted proxies in a row than anybody has.
    #[error("the header {0} names too many trusted proxies")]
    TooMany(&'static str),
}

impl Proxies {
    /// These proxies, who tell it this way.
    pub fn new(trusted: AllowList, told: Told) -> Self {
        Self { trusted, told }
    }

    /// Whether the peer is one of them.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.trusted.allows(peer)
    }

    /// Their addresses.
    pub fn trusted(&self) -> &AllowList {
        &self.trusted
    }

    /// How they tell whom they speak for.
    pub fn told(&self) -> Told {
        self.told
    }

    /// Whom one of them speaks for, by the lines of its header `name` in their order.
    ///
    /// # Errors
    /// When it does not say, or not clearly.
    pub fn speaks_for<'a>(
        &self,
        name: &'static str,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Peer, Unclear> {
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() {
            return Err(Unclear::NoHeader(name));
        }
        let last_first = lines.iter().rev();
        if self.told == Told::Forwarded {
            let whole: Option<Vec<_>> = lines.iter().map(|line| elements(line)).collect();
            let whole = whole.ok_or(Unclear::Unreadable(name))?.concat();
            return self.walk(name, whole.into_iter().rev());
        }
        self.walk(
            name,
            last_first.flat_map(|line| line.rsplit(|byte| *byte == b',')),
        )
    }

    /// From the last hop to the first one that is no trusted proxy. When all are, the first of all: nobody stands before it.
    fn walk<'a>(
        &self,
        name: &'static str,
        last_first: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Peer, Unclear> {
        let mut first = Err(Unclear::NoHeader(name));
        for (passed, hop) in last_first.enumerate() {
            if passed == HOPS_MAX {
                return Err(Unclear::TooMany(name));
            }
            let peer = match Hop::read(hop) {
                Some(Hop::At(peer)) => peer,
                Some(Hop::Hidden) => return Err(Unclear::Hidden(name)),
                None => return Err(Unclear::Unreadable(name)),
            };
            if !self.trusts(peer) {
                return Ok(peer);
            }
            first = Ok(peer);
        }
        first
    }
}

/// One hop as a header writes it.
#[derive(Debug, PartialEq, Eq)]
enum Hop {
    At(Peer),
    /// `unknown`, or a name that its proxy made up (RFC 7239 section 6).
    Hidden,
}

impl Hop {
    /// `1.2.3.4`, `1.2.3.4:55`, `2001:db8::1`, `fe80::1%eth0`, `[2001:db8::1]`, `[2001:db8::1]:55`; a port may be made up.
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
        if text.eq_ignore_ascii_case("unknown") || text.starts_with('_') {
            return Some(Self::Hidden);
        }
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                // In brackets there is no IPv4 address, but for one that is mapped.
                address.contains(':').then_some((address, port))?
            }
            None if text.matches(':').count() == 1 => text.split_at(text.find(':')?),
            None => (text, ""),
        };
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        Some(Self::At(Peer::of(SocketAddr::new(unzoned(address)?, 0))))
    }
}

/// Digits, or a name that a proxy made up.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

/// An address without its zone, which means something on the proxy's machine only. An IPv4 address has none.
fn unzoned(text: &str) -> Option<IpAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse().ok();
    };
    let address: IpAddr = address.parse().ok()?;
    let zoned = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_graphic());
    (zoned && address.to_canonical().is_ipv6()).then_some(address)
}

/// The `for` of each element of one `Forwarded` line, empty where there is none; nothing at all when the line does not
/// follow RFC 7239 section 4. The whole line must, and no quoted text may hold a comma: a stranger who opens a quote in
/// the part that is his own could otherwise swallow what the proxy appended.
fn elements(line: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        let mut speaks_for: Option<&[u8]> = None;
        loop {
            rest = rest.trim_ascii_start();
            if !matches!(rest.first(), None | Some(b';' | b',')) {
                let (name, value);
                (name, value, rest) = pair(rest)?;
                if name.eq_ignore_ascii_case(b"for") && speaks_for.replace(value).is_some() {
                    return None;
                }
                rest = rest.trim_ascii_start();
            }
            match rest.split_first() {
                Some((b';', more)) => rest = more,
                None | Some((b',', _)) => break,
                Some(_) => return None,
            }
        }
        found.push(speaks_for.unwrap_or_default());
        match rest.split_first() {
            Some((_, more)) => rest = more,
            None => return Some(found),
        }
    }
}

/// `name=value` or `name="value"`, and what follows it.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty()
        || !name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
    {
        return None;
    }
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let end = value
            .iter()
            .position(|byte| b";, \t".contains(byte))
            .unwrap_or(value.len());
        let (value, rest) = value.split_at(end);
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"=\\".contains(byte);
        return (!value.is_empty() && value.iter().all(plain)).then_some((name, value, rest));
    };
    let mut escaped = false;
    for (at, byte) in quoted.iter().enumerate() {
        match byte {
            b',' | 0..=31 | 127.. => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((name, &quoted[..at], &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const STRANGER: &str = "203.0.113.7";

    fn proxies(told: Told) -> Proxies {
        let trusted = ["10.0.0.0/8", "127.0.0.1", "2001:db8:f::/48"];
        Proxies::new(
            AllowList::new(trusted.map(|text| text.parse().expect("a source")).to_vec()),
            told,
        )
    }

    fn by(told: Told, lines: &[&str]) -> Result<String, Unclear> {
        let lines = lines.iter().map(|line| line.as_bytes());
        let name = told.header().expect("a header");
        let peer = proxies(told).speaks_for(name, lines)?;
        Ok(peer.address().to_string())
    }

    fn x(lines: &[&str]) -> Result<String, Unclear> {
        by(Told::XForwardedFor, lines)
    }

    fn f(lines: &[&str]) -> Result<String, Unclear> {
        by(Told::Forwarded, lines)
    }

    const X: &str = "x-forwarded-for";
    const F: &str = "forwarded";

    #[test]
    fn the_right_most_hop_that_is_no_trusted_proxy_is_the_peer() {
        for (lines, peer) in [
            (&["1.2.3.4"][..], "1.2.3.4"),
            (&["3.130.254.46, 1.2.3.4"], "1.2.3.4"),
            (&["3.130.254.46, 1.2.3.4, 10.0.0.2,127.0.0.1"], "1.2.3.4"),
            (&["3.130.254.46", "1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            (&["3.130.254.46, 1.2.3.4", "10.0.0.2"], "1.2.3.4"),
            (&["1.2.3.4, 2001:db8:f::9"], "1.2.3.4"),
        ] {
            assert_eq!(x(lines), Ok(peer.to_owned()), "{lines:?}");
        }
    }

    #[test]
    fn when_all_hops_are_trusted_proxies_the_first_of_them_is_the_peer() {
        assert_eq!(x(&["10.0.0.9, 10.0.0.2"]), Ok("10.0.0.9".to_owned()));
        assert_eq!(
            f(&["for=10.0.0.9", "for=10.0.0.2"]),
            Ok("10.0.0.9".to_owned())
        );
    }

    #[test]
    fn what_stands_before_that_hop_is_not_even_read() {
        for junk in ["unknown", "_x", "", "\u{1}", "::::", "1.2.3.4.5"] {
            assert_eq!(
                x(&[&format!("{junk}, {STRANGER}, 10.0.0.1")]),
                Ok(STRANGER.to_owned())
            );
            assert_eq!(x(&[junk, STRANGER]), Ok(STRANGER.to_owned()));
        }
    }

    #[test]
    fn every_way_to_write_an_address_is_understood() {
        for (text, peer) in [
            ("1.2.3.4:55", "1.2.3.4"),
            ("\t1.2.3.4 ", "1.2.3.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:55", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:55", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::FFFF:1.2.3.4]:55", "1.2.3.4"),
        ] {
            assert_eq!(x(&[text]), Ok(peer.to_owned()), "{text}");
            assert_eq!(
                f(&[&format!("For=\"{}\";proto=https", text.trim())]),
                Ok(peer.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_not_taken_for_one() {
        for text in [
            "",
            " ",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:+5",
            "1.2.3.4:65536",
            "[1.2.3.4]",
            "[2001:db8::1",
            "[2001:db8::1]55",
            "2001:db8::1]",
            "1.2.3.4%eth0",
            "::ffff:1.2.3.4%eth0",
            "fe80::1%",
            "localhost",
            "1.2.3.4 5.6.7.8",
            "\"1.2.3.4\"",
            "1.2.3.4;5.6.7.8",
            "for=1.2.3.4",
            "1.2.3.4\0",
        ] {
            assert_eq!(
                x(&[&format!("3.130.254.46, {text}")]),
                Err(Unclear::Unreadable(X)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_hop_that_hides_is_not_skipped() {
        for text in ["unknown", "Unknown", "_hidden", "_"] {
            assert_eq!(
                x(&[&format!("3.130.254.46, {text}, 10.0.0.1")]),
                Err(Unclear::Hidden(X))
            );
            assert_eq!(
                f(&[&format!("for=3.130.254.46, for={text}, for=10.0.0.1")]),
                Err(Unclear::Hidden(F))
            );
        }
    }

    #[test]
    fn a_trusted_proxy_that_says_nothing_is_not_understood() {
        assert_eq!(x(&[]), Err(Unclear::NoHeader(X)));
        assert_eq!(f(&[]), Err(Unclear::NoHeader(F)));
        assert_eq!(x(&[""]), Err(Unclear::Unreadable(X)));
        assert_eq!(f(&[""]), Err(Unclear::Unreadable(F)));
        assert_eq!(
            f(&["for=3.130.254.46, proto=https"]),
            Err(Unclear::Unreadable(F))
        );
    }

    #[test]
    fn a_row_of_trusted_proxies_without_an_end_is_not_followed() {
        let endless = format!("3.130.254.46{}", ", 10.0.0.1".repeat(HOPS_MAX));
        assert_eq!(x(&[&endless]), Err(Unclear::TooMany(X)));
        let before = format!("{}, {STRANGER}", "10.0.0.1, ".repeat(4_000));
        assert!(x(&[&before]).is_err() || x(&[&before]) == Ok(STRANGER.to_owned()));
        let long = format!("{}{STRANGER}, 10.0.0.1", "9.9.9.9, ".repeat(4_000));
        assert_eq!(x(&[&long]), Ok(STRANGER.to_owned()));
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (lines, peer) in [
            (
                &["for=192.0.2.60;proto=http;by=203.0.113.43"][..],
                "192.0.2.60",
            ),
            (&["for=192.0.2.43, FOR=198.51.100.17"], "198.51.100.17"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=192.0.2.43:47011"], "192.0.2.43"),
            (&["for=\"192.0.2.43:_gate\""], "192.0.2.43"),
            (
                &["proto=https;;for=192.0.2.43 ; host=\"a\\\"b\";"],
                "192.0.2.43",
            ),
            (
                &["for=3.130.254.46", "for=192.0.2.43;by=_x", "for=10.0.0.1"],
                "192.0.2.43",
            ),
        ] {
            assert_eq!(f(lines), Ok(peer.to_owned()), "{lines:?}");
        }
    }

    #[test]
    fn a_forwarded_line_that_breaks_its_grammar_anywhere_is_not_understood() {
        for line in [
            "for",
            "=1.2.3.4",
            "for=",
            "for=1.2.3.4;for=3.130.254.46",
            "for=1.2.3.4 proto=http",
            "for=\"1.2.3.4",
            "for=1.2.3.4\"",
            "for=\"1.2.3.4\"x",
            "f r=1.2.3.4",
            "for=\"1.2.3.4\\",
            "for==1.2.3.4",
            "x=\u{e9};for=1.2.3.4",
            "x=\"\u{7f}\";for=1.2.3.4",
        ] {
            assert_eq!(
                f(&[&format!("{line}, for=1.2.3.4")]),
                Err(Unclear::Unreadable(F)),
                "{line}"
            );
            assert_eq!(
                f(&[line, "for=1.2.3.4"]),
                Err(Unclear::Unreadable(F)),
                "{line}"
            );
        }
    }

    /// The proxy appends `, for=ADDRESS;host="HOST"`; everything before it, and HOST, is the stranger's own.
    #[test]
    fn a_quote_that_a_stranger_opens_does_not_swallow_what_the_proxy_appends() {
        for (his, host) in [
            ("for=3.130.254.46;x=\"", ";y="),
            ("for=3.130.254.46;x=\"", "a"),
            ("for=3.130.254.46;x=\"\\", ";y="),
            ("x=\"", "a,for=\"3.130.254.46"),
            ("for=1.1.1.1", "a,for=\"3.130.254.46"),
        ] {
            let line = format!("{his}, for={STRANGER};host=\"{host}\"");
            assert_ne!(f(&[&line]), Ok("3.130.254.46".to_owned()), "{line}");
        }
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
            any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_ipv6_mapped().into()),
        ]
    }

    fn written(address: IpAddr, port: Option<u16>) -> String {
        match port {
            None => address.to_string(),
            Some(port) => SocketAddr::new(address, port).to_string(),
        }
    }

    proptest! {
        #[test]
        fn nothing_a_stranger_writes_moves_the_hop_that_is_judged(
            his in proptest::collection::vec("[ -~\\x80-\\xff\t]{0,60}", 0..4),
            stranger in address(), port in any::<Option<u16>>(), passed in 0usize..HOPS_MAX, split in any::<bool>(),
        ) {
            prop_assume!(!proxies(Told::XForwardedFor).trusts(Peer::of(SocketAddr::new(stranger, 0))));
            let ours = format!("{}{}", written(stranger, port), ", 10.0.0.1".repeat(passed));
            let mut lines = his;
            match lines.last_mut() {
                Some(last) if !split => *last += &format!(", {ours}"),
                _ => lines.push(ours),
            }
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(x(&lines), Ok(stranger.to_canonical().to_string()));
        }

        #[test]
        fn nothing_a_stranger_writes_moves_the_element_that_is_judged(
            his in "[ -~]{0,60}|(for=3\\.130\\.254\\.46|x=|\"|;|,|\\\\| ){0,12}",
            host in "[a-z;=,.]{0,12}", split in any::<bool>(),
        ) {
            let ours = format!("for={STRANGER};host=\"{host}\"");
            let judged = match split {
                true => f(&[&his, &ours]),
                false => f(&[&format!("{his}, {ours}")]),
            };
            prop_assert!(judged.is_err() || judged == Ok(STRANGER.to_owned()), "{:?}", judged);
        }

        #[test]
        fn what_a_proxy_writes_by_the_grammar_is_understood(
            first in address(), port in any::<Option<u16>>(), by in "_[a-z]{1,8}", host in "[a-z.\\[\\]:;=]{0,12}",
        ) {
            let lines = [format!("for=\"{}\";by={by};host=\"{host}\";proto=https, for=10.0.0.1", written(first, port))];
            let canonical = first.to_canonical();
            prop_assume!(!proxies(Told::Forwarded).trusts(Peer::of(SocketAddr::new(first, 0))));
            prop_assert_eq!(f(&[&lines[0]]), Ok(canonical.to_string()));
        }

        #[test]
        fn reading_a_header_never_panics(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
            for told in [Told::XForwardedFor, Told::Forwarded] {
                let read = proxies(told).speaks_for("x", lines.iter().map(Vec::as_slice));
                prop_assert!(read.is_err() || read.is_ok_and(|peer| peer.address() == peer.address().to_canonical()));
            }
        }
    }
}
