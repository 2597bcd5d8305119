//! The PROXY protocol, versions 1 and 2: what a trusted proxy says in front of everything else on a connection. Pure, and
//! the only user of `proxy_header`. Knows no sockets.

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

use super::hops::Unclear;
use super::source::Peer;
use crate::limits::PROXY_LINE_BYTES_MAX;

/// How the two versions begin.
const SIGNATURES: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];
/// Bytes of a signature that tell it from TLS and HTTP: no method is called PROXY, and neither knows a NUL.
const TELLING_BYTES: usize = 5;
/// The longest line of version 1, its end included. `proxy_header` refuses a longer one only while its end has not come.
const FIRST_BYTES_MAX: usize = 107;
/// Where version 2 has its command, and the command of a connection that the proxy made for itself.
const COMMAND_AT: usize = 12;
const COMMAND_LOCAL: u8 = 0x20;

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// For this client.
    Client(Peer),
    /// For the proxy itself, which looks whether somebody listens.
    Itself,
}

/// Reads the line at the beginning of `bytes`: whom it names and how long it is, or nothing while it is not whole.
///
/// # Errors
/// When there is no such line, or it names no client of a TCP connection.
pub fn read(bytes: &[u8]) -> Result<Option<(Whom, usize)>, Unclear> {
    let begins = |signature: &&[u8]| {
        let known = bytes.len().min(signature.len());
        bytes[..known] == signature[..known]
    };
    if !SIGNATURES.iter().any(begins) {
        return Err(Unclear::NoProxyLine);
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (line, length) = match ProxyHeader::parse(bytes, config) {
        Ok(read) => read,
        Err(Error::BufferTooShort) if bytes.len() < PROXY_LINE_BYTES_MAX => return Ok(None),
        Err(_) => return Err(Unclear::BadProxyLine),
    };
    let is_second = bytes.starts_with(SIGNATURES[1]);
    if !is_second && length > FIRST_BYTES_MAX {
        return Err(Unclear::BadProxyLine);
    }
    match line.proxied_address() {
        Some(named) if named.protocol == Protocol::Stream => {
            Ok(Some((Whom::Client(Peer::of(named.source)), length)))
        }
        Some(_) => Err(Unclear::BadProxyLine),
        None if is_second && bytes.get(COMMAND_AT) == Some(&COMMAND_LOCAL) => {
            Ok(Some((Whom::Itself, length)))
        }
        None => Err(Unclear::EmptyProxyLine),
    }
}

/// Looks at the first bytes of a connection on which no such line is expected.
#[derive(Debug, Default)]
pub struct FirstBytes {
    bytes: [u8; TELLING_BYTES],
    seen: usize,
}

impl FirstBytes {
    /// Whether the connection, now that these bytes came, begins with a PROXY line.
    pub fn show_proxy_line(&mut self, came: &[u8]) -> bool {
        let wanted = came.len().min(TELLING_BYTES - self.seen);
        if wanted == 0 {
            return false;
        }
        self.bytes[self.seen..self.seen + wanted].copy_from_slice(&came[..wanted]);
        self.seen += wanted;
        self.seen == TELLING_BYTES
            && SIGNATURES
                .iter()
                .any(|signature| signature.starts_with(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proxy_header::ProxiedAddress;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    fn client(address: &str) -> Whom {
        Whom::Client(Peer::of(SocketAddr::new(
            address.parse().expect("an address"),
            0,
        )))
    }

    #[test]
    fn both_versions_name_their_client() {
        let first = b"PROXY TCP4 3.130.254.46 192.0.2.1 40000 8443\r\n";
        assert_eq!(
            read(&[&first[..], b"\x16\x03"].concat()),
            Ok(Some((client("3.130.254.46"), first.len())))
        );
        let mapped = b"PROXY TCP6 ::ffff:3.130.254.46 ::1 40000 8443\r\n";
        assert_eq!(
            read(mapped),
            Ok(Some((client("3.130.254.46"), mapped.len())))
        );
        let second =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x03\x82\xfe\x2e\xc0\0\x02\x01\x9c\x40\x20\xfb";
        assert_eq!(
            read(second),
            Ok(Some((client("3.130.254.46"), second.len())))
        );
    }

    #[test]
    fn a_line_of_version_1_that_is_too_long_is_so_in_one_piece_as_well() {
        let line = |zeros: usize| {
            format!(
                "PROXY TCP4 3.130.254.46 192.0.2.1 {}1 2\r\n",
                "0".repeat(zeros)
            )
        };
        let longest = FIRST_BYTES_MAX - line(0).len();
        assert!(matches!(
            read(line(longest).as_bytes()),
            Ok(Some((_, FIRST_BYTES_MAX)))
        ));
        let long = line(longest + 1);
        assert_eq!(read(long.as_bytes()), Err(Unclear::BadProxyLine));
        assert_eq!(
            read(&long.as_bytes()[..FIRST_BYTES_MAX]),
            Err(Unclear::BadProxyLine)
        );
    }

    #[test]
    fn a_health_check_is_for_the_proxy_itself() {
        assert_eq!(
            read(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
            Ok(Some((Whom::Itself, 16)))
        );
        let with_addresses =
            b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\x03\x82\xfe\x2e\xc0\0\x02\x01\x9c\x40\x20\xfb";
        assert_eq!(read(with_addresses), Ok(Some((Whom::Itself, 28))));
    }

    #[test]
    fn a_line_that_names_nobody_counts_for_nobody() {
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Err(Unclear::EmptyProxyLine));
        assert_eq!(
            read(b"PROXY UNKNOWN 3.130.254.46 ::1 1 2\r\n"),
            Err(Unclear::EmptyProxyLine)
        );
        assert_eq!(
            read(b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"),
            Err(Unclear::EmptyProxyLine)
        );
        let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[0; 216]].concat();
        assert_eq!(read(&unix), Err(Unclear::EmptyProxyLine));
    }

    #[test]
    fn what_is_no_such_line_says_so_at_once() {
        for bytes in [
            &b"\x16\x03\x01"[..],
            b"POST / HTTP/1.1\r\n",
            b"G",
            b"PROXX",
            b"\r\n\r\nG",
            b"proxy tcp4",
        ] {
            assert_eq!(read(bytes), Err(Unclear::NoProxyLine), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_that_is_malformed_endless_or_about_datagrams_is_refused() {
        for bytes in [
            &b"PROXY TCP4 3.130.254.46 192.0.2.1 40000 8443\rX"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\x03\x82\xfe\x2e\xc0\0\x02\x01\x9c\x40\x20\xfb",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\x03\x82\xfe\x2e\xc0\0\x02\x01\x9c\x40\x20\xfb",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x03\x82\xfe\x2e\xc0\0\x02\x01\x9c\x40\x20\xfb",
        ] {
            assert_eq!(read(bytes), Err(Unclear::BadProxyLine), "{bytes:?}");
        }
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        assert_eq!(read(&endless), Err(Unclear::BadProxyLine));
        let large = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..],
            &[0; PROXY_LINE_BYTES_MAX],
        ]
        .concat();
        assert_eq!(read(&large), Err(Unclear::BadProxyLine));
    }

    fn address() -> impl Strategy<Value = (IpAddr, IpAddr)> {
        prop_oneof![
            any::<(u32, u32)>()
                .prop_map(|(a, b)| (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into())),
            any::<(u128, u128)>()
                .prop_map(|(a, b)| (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into())),
        ]
    }

    proptest! {
        #[test]
        fn a_line_is_read_however_it_is_cut_and_whatever_follows(
            (from, to) in address(), ports in any::<(u16, u16)>(), second in any::<bool>(), rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let header = ProxyHeader::with_address(ProxiedAddress::stream(SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1)));
            let mut line = Vec::new();
            if second { header.encode_v2(&mut line) } else { header.encode_v1(&mut line) }.expect("a line");
            for cut in 0..line.len() {
                prop_assert_eq!(read(&line[..cut]), Ok(None));
            }
            let whom = Whom::Client(Peer::of(SocketAddr::new(from, 0)));
            prop_assert_eq!(read(&[&line[..], &rest].concat()), Ok(Some((whom, line.len()))));
        }

        #[test]
        fn reading_never_panics_and_never_reads_beyond(bytes in "(PROXY |TCP4 |UNKNOWN|1\\.2\\.3\\.4 |\r\n|\0|QUIT\n|[ -~]){0,30}", raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let second = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &raw].concat();
            for bytes in [bytes.as_bytes(), &raw, &second] {
                if let Ok(Some((_, length))) = read(bytes) {
                    prop_assert!(length <= bytes.len());
                }
            }
        }

        #[test]
        fn a_line_is_recognised_however_its_first_bytes_come(first in 0usize..TELLING_BYTES, second in any::<bool>()) {
            let line = SIGNATURES[usize::from(second)];
            let mut seen = FirstBytes::default();
            prop_assert!(!seen.show_proxy_line(&line[..first]));
            prop_assert!(seen.show_proxy_line(&line[first..]));
            prop_assert!(!seen.show_proxy_line(b"PROXY TCP4"));
        }

        #[test]
        fn nothing_else_is_taken_for_one(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assume!(!SIGNATURES.iter().any(|signature| bytes.starts_with(&signature[..TELLING_BYTES])));
            prop_assert!(!FirstBytes::default().show_proxy_line(&bytes));
        }
    }
}
