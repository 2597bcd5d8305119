//! Where requests begin and end in the bytes of a connection, and whether every reader of a head would say the same. hyper
//! takes more than that (bare line feeds, a length beside chunks, the same length twice) and does not tell, and a
//! request that two readers end at two places hides another one. So each head is looked at as it came, and hyper is
//! given no byte of the next request before it has answered this one. Pure; knows no sockets and no checks.

use memchr::memchr_iter;
use thiserror::Error;

use crate::limits::HEAD_BYTES_MAX;

/// Why a head is refused whatever it asks for. None of this is what Belvo, a proxy or a browser sends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A line feed without its carriage return, or the reverse.
    #[error("a line of the head does not end with CR LF")]
    LineEnd,
    /// A character that has no place in a head.
    #[error("the head contains a control character")]
    Control,
    /// Something else than a method, a path and HTTP/1.x.
    #[error("the request line is not a method, a path and HTTP/1.0 or 1.1")]
    RequestLine,
    /// A line without a name, or one that continues the line before.
    #[error("a line of the head is not a name, a colon and a value")]
    Line,
    /// None in HTTP/1.1, several, or one that is no host.
    #[error("the head does not name one host")]
    Host,
    /// Several lengths, or one that is no number.
    #[error("the head does not give one length")]
    Length,
    /// Chunks beside a length, in HTTP/1.0, or wrapped in something else.
    #[error("the head names a Transfer-Encoding other than chunked alone")]
    Coding,
    /// GET and HEAD ask for something and bring nothing.
    #[error("the head announces a body that its method cannot have")]
    Body,
    /// Something is expected that nobody promised.
    #[error("the head expects something else than 100-continue")]
    Expectation,
    /// hyper took a request that was not seen to end.
    #[error("the head ends where it should not")]
    Unseen,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; then the next request.
    Bytes(u64),
    /// Chunks, whose end is hyper's to find; no other request follows them.
    Chunks,
}

/// Follows the requests of one connection, byte by byte as they come.
#[derive(Debug, Default)]
pub struct Follower {
    /// What has come of a head that is not whole yet.
    head: Vec<u8>,
    verdict: Option<Result<Body, Fault>>,
    /// Bytes of the body that have not come yet; counts when there is a verdict.
    body_left: u64,
}

impl Follower {
    /// How many of these bytes still belong to the current request. The rest is to be kept until [`Self::go_on`].
    pub fn follow(&mut self, bytes: &[u8]) -> usize {
        let head = match self.verdict {
            Some(_) => 0,
            None => self.in_head(bytes),
        };
        let rest = (bytes.len() - head) as u64;
        match self.verdict {
            Some(Ok(Body::Chunks)) => bytes.len(),
            Some(_) => {
                let body = rest.min(self.body_left);
                self.body_left -= body;
                head + body as usize
            }
            None => head,
        }
    }

    /// How many of these bytes belong to the head.
    fn in_head(&mut self, bytes: &[u8]) -> usize {
        // Empty lines before a head are no part of it (RFC 9112 section 2.2).
        let empty = match self.head.is_empty() {
            true => bytes
                .iter()
                .take_while(|byte| b"\r\n".contains(byte))
                .count(),
            false => 0,
        };
        // More than this hyper refuses by itself.
        let room = (2 * HEAD_BYTES_MAX).saturating_sub(self.head.len());
        let came = &bytes[empty..bytes.len().min(empty + room)];
        if self.head.is_empty()
            && let Some(end) = end(came, 0)
        {
            // All of it at once, as nearly always.
            self.judge(look(&came[..end]));
            return empty + end;
        }
        let known = self.head.len();
        self.head.extend_from_slice(came);
        let Some(end) = end(&self.head, known.saturating_sub(2)) else {
            return bytes.len();
        };
        self.judge(look(&self.head[..end]));
        self.head = Vec::new();
        empty + end - known
    }

    fn judge(&mut self, verdict: Result<Body, Fault>) {
        if let Ok(Body::Bytes(length)) = verdict {
            self.body_left = length;
        }
        self.verdict = Some(verdict);
    }

    /// Whether the current request is whole, so that nothing more belongs to it.
    pub fn is_whole(&self) -> bool {
        match self.verdict {
            Some(Ok(Body::Bytes(_)) | Err(_)) => self.body_left == 0,
            Some(Ok(Body::Chunks)) | None => false,
        }
    }

    /// Whether bytes of a head have come.
    pub fn has_begun(&self) -> bool {
        self.verdict.is_some() || !self.head.is_empty()
    }

    /// What the current head is worth.
    ///
    /// # Errors
    /// When it is refused whatever it asks for.
    pub fn verdict(&self) -> Result<Body, Fault> {
        self.verdict.unwrap_or(Err(Fault::Unseen))
    }

    /// The current request is answered: what follows is the next one. After a request whose end is not certain, and
    /// after one that was not read to its end, there is none; says whether there is.
    pub fn go_on(&mut self) -> bool {
        let follows = self.is_whole() && self.verdict().is_ok();
        if follows {
            *self = Self::default();
        }
        follows
    }
}

/// Where the head ends, as hyper has it: after the first empty line, whether or not its lines end with CR LF. All before
/// `from` was looked at already.
fn end(head: &[u8], from: usize) -> Option<usize> {
    for feed in memchr_iter(b'\n', &head[from..]).map(|at| from + at) {
        match &head[feed + 1..] {
            [b'\n', ..] => return Some(feed + 2),
            [b'\r', b'\n', ..] => return Some(feed + 3),
            _ => {}
        }
    }
    None
}

/// What follows a whole head.
///
/// # Errors
/// When it is refused whatever it asks for.
fn look(head: &[u8]) -> Result<Body, Fault> {
    characters(head)?;
    let text = head.strip_suffix(b"\r\n\r\n").ok_or(Fault::LineEnd)?;
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let (method, version) = request_line(lines.next().unwrap_or_default())?;
    let mut named = Named::default();
    for line in lines {
        named.take(line)?;
    }
    match named.body(version)? {
        Body::Bytes(0) => Ok(Body::Bytes(0)),
        _ if [&b"GET"[..], b"HEAD"].contains(&method) => Err(Fault::Body),
        body => Ok(body),
    }
}

/// Every line ends with CR LF, and nothing else in it is a control character but the tab.
fn characters(head: &[u8]) -> Result<(), Fault> {
    for (at, byte) in head.iter().enumerate() {
        if IS_TEXT[usize::from(*byte)] {
            continue;
        }
        match byte {
            b'\n' if at > 0 && head[at - 1] == b'\r' => {}
            b'\r' if head.get(at + 1) == Some(&b'\n') => {}
            b'\r' | b'\n' => return Err(Fault::LineEnd),
            _ => return Err(Fault::Control),
        }
    }
    Ok(())
}

/// Whether a byte may stand anywhere in a line.
static IS_TEXT: [bool; 256] = {
    let mut is_text = [false; 256];
    let mut byte = 0;
    while byte < is_text.len() {
        is_text[byte] = matches!(byte as u8, b'\t' | b' '..=b'~' | 0x80..);
        byte += 1;
    }
    is_text
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// The target is a path: what a proxy is asked for (`http://...`), a tunnel (`host:port`) and `*` are not for us, and hyper
/// would cut off a fragment.
fn request_line(line: &[u8]) -> Result<(&[u8], Version), Fault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_path = |target: &[u8]| {
        target.starts_with(b"/")
            && target
                .iter()
                .all(|byte| byte.is_ascii_graphic() && *byte != b'#')
    };
    match (method, target, version, words.next()) {
        (Some(method), Some(target), Some(version), None)
            if is_token(method) && is_path(target) =>
        {
            match version {
                b"HTTP/1.1" => Ok((method, Version::Http11)),
                b"HTTP/1.0" => Ok((method, Version::Http10)),
                _ => Err(Fault::RequestLine),
            }
        }
        _ => Err(Fault::RequestLine),
    }
}

/// What counts of the header lines, each at most once.
#[derive(Default)]
struct Named {
    has_host: bool,
    length: Option<u64>,
    has_chunks: bool,
}

impl Named {
    fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(Fault::Line)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) {
            return Err(Fault::Line);
        }
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"host") {
            if self.has_host || !is_host(value) {
                return Err(Fault::Host);
            }
            self.has_host = true;
        } else if is(b"content-length") {
            let length = number(value).ok_or(Fault::Length)?;
            if self.length.replace(length).is_some() {
                return Err(Fault::Length);
            }
        } else if is(b"transfer-encoding") {
            if self.has_chunks || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Coding);
            }
            self.has_chunks = true;
        } else if is(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Fault::Expectation);
        }
        Ok(())
    }

    fn body(&self, version: Version) -> Result<Body, Fault> {
        match (self.has_host, self.has_chunks, self.length) {
            (false, ..) if version == Version::Http11 => Err(Fault::Host),
            (_, true, Some(_)) => Err(Fault::Coding),
            (_, true, None) if version == Version::Http10 => Err(Fault::Coding),
            (_, true, None) => Ok(Body::Chunks),
            (_, false, length) => Ok(Body::Bytes(length.unwrap_or(0))),
        }
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let is_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_digits)?;
    text.parse().ok()
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    let is_sign = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || is_sign(byte))
}

/// A name or address with or without a port, by its characters (RFC 3986 section 3.2.2); empty is allowed there.
fn is_host(value: &[u8]) -> bool {
    let is_sign = |byte: &u8| b"-._~%!$&'()*+,;=:[]".contains(byte);
    value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || is_sign(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(lines: &str) -> String {
        format!("POST /belvo/webhooks HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
    }

    fn judge(lines: &str) -> Result<Body, Fault> {
        look(head(lines).as_bytes())
    }

    #[test]
    fn a_length_says_where_the_next_request_begins() {
        assert_eq!(judge("Content-Length: 7\r\n"), Ok(Body::Bytes(7)));
        assert_eq!(judge(""), Ok(Body::Bytes(0)));
        assert_eq!(judge("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunks));
    }

    #[test]
    fn a_length_is_given_once_and_not_beside_chunks() {
        for lines in [
            "5\r\nContent-Length: 5",
            "5, 5",
            "+5",
            "-5",
            "0x5",
            "",
            "18446744073709551616",
        ] {
            assert_eq!(
                judge(&format!("Content-Length: {lines}\r\n")),
                Err(Fault::Length),
                "{lines}"
            );
        }
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(judge(both), Err(Fault::Coding));
        let reversed = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
        assert_eq!(judge(reversed), Err(Fault::Coding));
    }

    #[test]
    fn what_clients_and_proxies_send_is_no_fault() {
        for lines in [
            "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n",
            "X-Forwarded-For: 3.130.254.46, 10.0.0.1\r\nX-Empty:\r\nForwarded: for=\"[2001:db8::1]:4711\"\r\n",
            "Expect: 100-Continue\r\nX-Name:\tJos\u{e9} \t \r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ] {
            assert_eq!(judge(lines), Ok(Body::Bytes(0)), "{lines}");
        }
        let http_10 = "GET /belvo/webhooks?a=b%20c&d HTTP/1.0\r\n\r\n";
        assert_eq!(look(http_10.as_bytes()), Ok(Body::Bytes(0)));
    }

    /// Follows the bytes in pieces of this size, and says what became of the first request and how long it is.
    fn followed(bytes: &[u8], piece: usize) -> (Follower, usize) {
        let (mut follower, mut length) = (Follower::default(), 0);
        for piece in bytes.chunks(piece) {
            let taken = follower.follow(piece);
            length += taken;
            if taken < piece.len() {
                break;
            }
        }
        (follower, length)
    }

    proptest! {
        #[test]
        fn a_request_ends_in_the_same_place_however_it_is_cut_into_pieces(
            empty in "(\r\n){0,2}",
            body in prop::collection::vec(any::<u8>(), 0..50),
            next in prop::collection::vec(any::<u8>(), 0..50),
            piece in 1..200_usize,
        ) {
            let head = format!("{empty}{}", head(&format!("Content-Length: {}\r\n", body.len())));
            let request = [head.as_bytes(), &body].concat();
            let (mut follower, length) = followed(&[&request[..], &next].concat(), piece);
            prop_assert_eq!(length, request.len());
            prop_assert_eq!(follower.verdict(), Ok(Body::Bytes(body.len() as u64)));
            prop_assert!(follower.is_whole() && follower.go_on() && !follower.has_begun());
        }

        #[test]
        fn whatever_comes_is_judged_alike_in_pieces_and_as_a_whole(
            bytes in "(POST|GET|P|) ?/?[a#?]{0,3} (HTTP/1.[019]|)(\r|)\n((Host|Content-Length|Transfer-Encoding|[a:\0 ]{1,2})(: |:|)(x|5|chunked|)(\r|)(\n|)){0,6}(\r|)\n.{0,20}",
            piece in 1..100_usize,
        ) {
            let bytes = bytes.as_bytes();
            let (one, whole) = (followed(bytes, bytes.len().max(1)), followed(bytes, piece));
            prop_assert_eq!(one.1, whole.1);
            prop_assert_eq!(one.0.verdict(), whole.0.verdict());
        }

        #[test]
        fn a_head_with_one_byte_that_does_not_belong_there_is_a_fault(
            at in 0..60_usize,
            bad in prop::sample::select(vec![0, 1, 7, 11, 12, 27, 127, b'\r', b'\n']),
        ) {
            let mut bytes = head("Content-Length: 5\r\nX-A: b\r\n").into_bytes();
            let at = at % (bytes.len() - 4);
            bytes.insert(at, bad);
            let (follower, _) = followed(&bytes, bytes.len());
            prop_assert!(at == 0 && b"\r\n".contains(&bad) || follower.verdict().is_err(), "{:?}", bytes);
        }
    }
}
