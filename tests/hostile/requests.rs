//! Requests that no webhook of Belvo's is like. Each has a name, and its bytes as they are sent.

use crate::vocabulary::PATH;

/// A body that would be kept, were its head in order.
const BODY: &str = "{\"a\":1}";

/// One request, or what somebody sends in place of one.
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

fn request(name: &'static str, bytes: impl Into<Vec<u8>>) -> Request {
    let bytes = bytes.into();
    Request { name, bytes }
}

/// A webhook that is only there to be taken for a second request.
fn hidden() -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{{\"b\":2}}")
}

/// With these header lines, which bring their own line ends, before the empty one.
fn with(lines: &str, body: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}{}",
        hidden()
    )
}

/// The same with a length that is right.
fn whole(lines: &str) -> String {
    with(&format!("Content-Length: 7\r\n{lines}"), BODY)
}

/// A whole request with this request line.
fn line(line: &str) -> String {
    format!(
        "{line}\r\nHost: x\r\nContent-Length: 7\r\n\r\n{BODY}{}",
        hidden()
    )
}

fn chunked(chunks: &str) -> String {
    with("Transfer-Encoding: chunked\r\n", chunks)
}

const CHUNKS: &str = "7\r\n{\"a\":1}\r\n0\r\n\r\n";

/// None of these may be answered 200, or leave anything in the journal.
pub(super) fn refused() -> Vec<Request> {
    [
        lengths(),
        codings(),
        chunks(),
        line_ends(),
        characters(),
        hosts(),
        targets(),
        versions(),
        others(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn lengths() -> Vec<Request> {
    let length = |value: &str| with(&format!("Content-Length: {value}\r\n"), BODY);
    vec![
        request("two lengths", length("7\r\nContent-Length: 3")),
        request("the same length twice", length("7\r\nContent-Length: 7")),
        request("a list of lengths", length("7, 7")),
        request("a length with a sign", length("+7")),
        request("a negative length", length("-7")),
        request("a hexadecimal length", length("0x7")),
        request("a length in two words", length("7 7")),
        request("a length with a parameter", length("7;a=b")),
        request("a length with a fraction", length("7.0")),
        request("an empty length", length("")),
        request("a length of 23 digits", length("99999999999999999999999")),
        request("the largest length", length("18446744073709551615")),
        request("a length of two mebibytes", length("2097152")),
        request(
            "a space before the colon of the length",
            with("Content-Length : 7\r\n", BODY),
        ),
        request(
            "a length without a colon",
            with("Content-Length 7\r\n", BODY),
        ),
        request(
            "a body shorter than its length",
            format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 70\r\n\r\n{BODY}"),
        ),
        request(
            "GET with a body",
            format!(
                "GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{BODY}{}",
                hidden()
            ),
        ),
        request(
            "GET with a request as its body",
            format!(
                "GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
                hidden().len(),
                hidden()
            ),
        ),
        request(
            "GET with chunks",
            format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}"),
        ),
        request(
            "HEAD with a body",
            format!("HEAD {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{BODY}"),
        ),
    ]
}

fn codings() -> Vec<Request> {
    let coding = |value: &str| with(&format!("Transfer-Encoding: {value}\r\n"), CHUNKS);
    let http_10 = |lines: &str| {
        format!(
            "POST {PATH} HTTP/1.0\r\nConnection: keep-alive\r\n{lines}\r\n{CHUNKS}{}",
            hidden()
        )
    };
    vec![
        request(
            "a length beside chunks",
            with(
                "Content-Length: 17\r\nTransfer-Encoding: chunked\r\n",
                CHUNKS,
            ),
        ),
        request(
            "chunks beside a length",
            with(
                "Transfer-Encoding: chunked\r\nContent-Length: 17\r\n",
                CHUNKS,
            ),
        ),
        request(
            "a length of nothing beside chunks",
            with(
                "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                CHUNKS,
            ),
        ),
        request("another coding", coding("identity")),
        request("a coding before the chunks", coding("gzip, chunked")),
        request("a coding after the chunks", coding("chunked, identity")),
        request("chunks in chunks", coding("chunked, chunked")),
        request(
            "chunks in two lines",
            coding("chunked\r\nTransfer-Encoding: chunked"),
        ),
        request(
            "chunks and identity in two lines",
            coding("chunked\r\nTransfer-Encoding: identity"),
        ),
        request("an unknown coding", coding("xchunked")),
        request("chunks in quotes", coding("\"chunked\"")),
        request("chunks with a parameter", coding("chunked;q=1")),
        request("chunks after a vertical tab", coding("\x0bchunked")),
        request("an empty coding", coding("")),
        request(
            "a folded coding",
            with("Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
        ),
        request(
            "a space before the colon of the coding",
            with("Transfer-Encoding : chunked\r\n", CHUNKS),
        ),
        request(
            "a length beside a misspelt coding",
            with(
                "Content-Length: 17\r\nTransfer-Encoding: chunke\r\n",
                CHUNKS,
            ),
        ),
        request(
            "chunks in HTTP/1.0",
            http_10("Transfer-Encoding: chunked\r\n"),
        ),
        request(
            "chunks beside a length in HTTP/1.0",
            http_10("Content-Length: 17\r\nTransfer-Encoding: chunked\r\n"),
        ),
        request(
            "two lengths in HTTP/1.0",
            http_10("Content-Length: 17\r\nContent-Length: 17\r\n"),
        ),
    ]
}

fn chunks() -> Vec<Request> {
    let long = "a".repeat(2 * 1024 * 1024);
    vec![
        request(
            "a chunk size that is no number",
            chunked("g\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a negative chunk size",
            chunked("-7\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a chunk size with a prefix",
            chunked("0x7\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request("an empty chunk size", chunked("\r\n{\"a\":1}\r\n0\r\n\r\n")),
        request(
            "a chunk size of 17 digits",
            chunked("FFFFFFFFFFFFFFFFF\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "the largest chunk size",
            chunked("FFFFFFFFFFFFFFFF\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a chunk longer than its size",
            chunked("2\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a chunk shorter than its size",
            chunked("9\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a chunk size that ends with a line feed alone",
            chunked("7\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a chunk without a line end",
            chunked("7\r\n{\"a\":1}0\r\n\r\n"),
        ),
        request(
            "a chunk extension of two mebibytes",
            chunked(&format!("7;{long}\r\n{{\"a\":1}}\r\n0\r\n\r\n")),
        ),
        request(
            "a chunk extension with a line feed",
            chunked("7;a\nb\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ),
        request(
            "a trailer of two mebibytes",
            chunked(&format!("7\r\n{{\"a\":1}}\r\n0\r\nX: {long}\r\n\r\n")),
        ),
        request(
            "chunks of two mebibytes in all",
            chunked(&format!("200000\r\n{long}\r\n0\r\n\r\n")),
        ),
    ]
}

fn line_ends() -> Vec<Request> {
    vec![
        request("line feeds alone", whole("").replace("\r\n", "\n")),
        request("one line feed alone", whole("X: a\nY: b\r\n")),
        request(
            "a head that ends with line feeds",
            format!(
                "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 7\n\n{BODY}{}",
                hidden()
            ),
        ),
        request(
            "a length after a line feed alone",
            with("X: a\nContent-Length: 7\r\n", BODY),
        ),
        request(
            "a request line that ends with a line feed",
            whole("").replacen("HTTP/1.1\r\n", "HTTP/1.1\n", 1),
        ),
        request("carriage returns alone", whole("").replace("\r\n", "\r")),
        request(
            "one carriage return alone",
            whole("X: a\rContent-Length: 9\r\n"),
        ),
        request("two carriage returns", whole("X: a\r\r\n")),
        request("a folded line", whole("X: a\r\n b\r\n")),
        request(
            "a line folded with a tab",
            whole("X: a\r\n\tTransfer-Encoding: chunked\r\n"),
        ),
        request(
            "a first line that is folded",
            whole("").replacen("\r\nHost", "\r\n Host", 1),
        ),
    ]
}

fn characters() -> Vec<Request> {
    vec![
        request("NUL in a value", whole("X: a\0b\r\n")),
        request("NUL in a name", whole("X\0: a\r\n")),
        request(
            "NUL in the host",
            whole("").replacen("Host: x", "Host: x\0y", 1),
        ),
        request(
            "NUL in the target",
            line(&format!("POST {PATH}\0 HTTP/1.1")),
        ),
        request(
            "NUL in the method",
            line(&format!("PO\0ST {PATH} HTTP/1.1")),
        ),
        request("a bell in a value", whole("X: a\x07\r\n")),
        request("a backspace in a value", whole("X: a\x08\r\n")),
        request("an escape in a value", whole("X: a\x1b[2Jb\r\n")),
        request("a form feed in a value", whole("X: a\x0cb\r\n")),
        request("DEL in a value", whole("X: a\x7f\r\n")),
        request("a tab in a name", whole("X\tY: a\r\n")),
        request("a space in a name", whole("X Y: a\r\n")),
        request("parentheses in a name", whole("(X): a\r\n")),
        request("a name in another script", whole("\u{43d}: a\r\n")),
        request("a line without a name", whole(": a\r\n")),
        request("a line without a colon", whole("X\r\n")),
    ]
}

fn hosts() -> Vec<Request> {
    let host = |lines: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\n{lines}Content-Length: 7\r\n\r\n{BODY}{}",
            hidden()
        )
    };
    vec![
        request("no host", host("")),
        request("the same host twice", host("Host: x\r\nHost: x\r\n")),
        request("two hosts", host("Host: x\r\nhost: y\r\n")),
        request("a host with a path", host("Host: x/y\r\n")),
        request("a host with a user", host("Host: a@x\r\n")),
        request("two hosts in one line", host("Host: x, y z\r\n")),
    ]
}

fn targets() -> Vec<Request> {
    let target = |target: &str| line(&format!("POST {target} HTTP/1.1"));
    vec![
        request(
            "a target with scheme and host",
            target(&format!("http://x{PATH}")),
        ),
        request(
            "a target with another host",
            target(&format!("https://y{PATH}")),
        ),
        request("a target that is a host", target("x:443")),
        request("a tunnel", line("CONNECT x:443 HTTP/1.1")),
        request(
            "a tunnel to the path",
            line(&format!("CONNECT {PATH} HTTP/1.1")),
        ),
        request("a target that is a star", target("*")),
        request("a target with a fragment", target(&format!("{PATH}#a"))),
        request("a target without its slash", target(&PATH[1..])),
        request("no target", line("POST HTTP/1.1")),
        request("an empty target", line("POST  HTTP/1.1")),
        request("a space in the target", target(&format!("{PATH} /x"))),
        request("an encoded slash", target(&PATH.replace("/w", "%2Fw"))),
        request("an encoded letter", target(&PATH.replace('b', "%62"))),
        request("a path with dots", target(&format!("/x/..{PATH}"))),
        request("a path with two slashes", target(&format!("/{PATH}"))),
        request("a path with backslashes", target(&PATH.replace('/', "\\"))),
        request("a path with a parameter", target(&format!("{PATH};a=b"))),
        request(
            "a target in another script",
            target(&format!("{PATH}?\u{43d}")),
        ),
        request(
            "a target of 70 KiB",
            target(&format!("{PATH}?{}", "a".repeat(70 * 1024))),
        ),
    ]
}

fn versions() -> Vec<Request> {
    let version = |version: &str| line(&format!("POST {PATH} {version}"));
    vec![
        request("HTTP/0.9", format!("GET {PATH}\r\n\r\n")),
        request(
            "HTTP/0.9 with its version",
            format!("GET {PATH} HTTP/0.9\r\n\r\n"),
        ),
        request("HTTP/1.2", version("HTTP/1.2")),
        request("HTTP/2.0", version("HTTP/2.0")),
        request("HTTP/1.11", version("HTTP/1.11")),
        request("HTTP in small letters", version("http/1.1")),
        request("another protocol", version("RTSP/1.0")),
        request("a space after the version", version("HTTP/1.1 ")),
        request(
            "two spaces before the target",
            line(&format!("POST  {PATH} HTTP/1.1")),
        ),
        request(
            "tabs in the request line",
            line(&format!("POST\t{PATH}\tHTTP/1.1")),
        ),
        request(
            "a space before the method",
            line(&format!(" POST {PATH} HTTP/1.1")),
        ),
        request(
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        request(
            "an upgrade elsewhere",
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{}",
                hidden()
            )
            .replacen("GET /", "OPTIONS /", 1),
        ),
    ]
}

fn others() -> Vec<Request> {
    vec![
        request(
            "a method in small letters",
            line(&format!("post {PATH} HTTP/1.1")),
        ),
        request("TRACE", line(&format!("TRACE {PATH} HTTP/1.1"))),
        request("PUT", line(&format!("PUT {PATH} HTTP/1.1"))),
        request("something else expected", whole("Expect: 200-ok\r\n")),
        request(
            "more expected than one thing",
            whole("Expect: 100-continue, 200-ok\r\n"),
        ),
        request("a thousand header lines", whole(&"X: a\r\n".repeat(1_000))),
        request(
            "a header line of 100 KiB",
            whole(&format!("X: {}\r\n", "a".repeat(100 * 1024))),
        ),
        request(
            "a header name of 100 KiB",
            whole(&format!("{}: a\r\n", "X".repeat(100 * 1024))),
        ),
        request(
            "a hundred kibibytes of empty lines",
            "\r\n".repeat(50 * 1024),
        ),
        request(
            "the greeting of TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        request(
            "a PROXY line from nowhere",
            format!("PROXY TCP4 3.130.254.46 10.0.0.1 1 2\r\n{}", hidden()),
        ),
        request("SSH", "SSH-2.0-OpenSSH_9.2p1\r\n"),
        request("nothing but NUL", vec![0; 4096]),
        request("JSON without HTTP", BODY),
    ]
}

/// These are unusual and in order: each is answered 200, and kept when it is a webhook.
pub(super) fn served() -> Vec<Request> {
    let one = |line: &str, lines: &str, body: &str| {
        format!("{line}\r\n{lines}Connection: close\r\n\r\n{body}")
    };
    let post = |lines: &str, body: &str| one(&format!("POST {PATH} HTTP/1.1"), lines, body);
    vec![
        request(
            "an empty line before the request",
            format!("\r\n{}", post("Host: x\r\nContent-Length: 7\r\n", BODY)),
        ),
        request(
            "names in small letters",
            post("host: x\r\ncontent-length: 7\r\n", BODY),
        ),
        request(
            "no space after the colon",
            post("Host:x\r\nContent-Length:7\r\n", BODY),
        ),
        request(
            "tabs around a value",
            post("Host:\tx\t\r\nContent-Length:\t7 \t\r\n", BODY),
        ),
        request(
            "zeros before the length",
            post("Host: x\r\nContent-Length: 0007\r\n", BODY),
        ),
        request(
            "chunks",
            post("Host: x\r\nTransfer-Encoding: Chunked\r\n", CHUNKS),
        ),
        request(
            "chunks with extensions and a trailer",
            post(
                "Host: x\r\nTransfer-Encoding: chunked\r\n",
                "7;a=b\r\n{\"a\":1}\r\n0\r\nX: y\r\n\r\n",
            ),
        ),
        request(
            "an address and a port as host",
            post("Host: [2001:db8::1]:8443\r\nContent-Length: 7\r\n", BODY),
        ),
        request(
            "an empty host",
            post("Host:\r\nContent-Length: 7\r\n", BODY),
        ),
        request(
            "a query",
            one(&format!("POST {PATH}?key=%20a&b"), "", "").replacen(
                "\r\n",
                " HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n",
                1,
            ) + BODY,
        ),
        request(
            "HTTP/1.0",
            one(
                &format!("POST {PATH} HTTP/1.0"),
                "Host: x\r\nContent-Length: 7\r\n",
                BODY,
            ),
        ),
        request(
            "HTTP/1.0 without a host",
            one(
                &format!("POST {PATH} HTTP/1.0"),
                "Content-Length: 7\r\n",
                BODY,
            ),
        ),
        request(
            "an offer to speak HTTP/2",
            post(
                "Host: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 7\r\n",
                BODY,
            ),
        ),
        request(
            "a name with an accent in a value",
            post(
                "Host: x\r\nX-Name: Jos\u{e9}\r\nContent-Length: 7\r\n",
                BODY,
            ),
        ),
        request(
            "sixty header lines",
            post(
                &format!("Host: x\r\nContent-Length: 7\r\n{}", "X: a\r\n".repeat(60)),
                BODY,
            ),
        ),
        request(
            "a header line of 12 KiB",
            post(
                &format!(
                    "Host: x\r\nContent-Length: 7\r\nX: {}\r\n",
                    "a".repeat(12 * 1024)
                ),
                BODY,
            ),
        ),
    ]
}
