//! Belvo's sending side: one POST with a JSON body from a chosen source address, over TLS or plain. It reports what came
//! back and when, or at which step it was turned away; it does not know what the receiver should have done.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned, WantsVerifier,
};
use tokio::net::TcpSocket;

use super::known::Known;
use crate::system::tls::provider;

/// Twice what Belvo grants, so that an answer that comes too late is still seen.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// An answer larger than this is no answer to a webhook.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where webhooks are sent to and how.
#[derive(Debug, Clone)]
pub struct Sender {
    to: SocketAddr,
    path: String,
    tls: Option<Arc<ClientConfig>>,
    name: ServerName<'static>,
    source: Option<IpAddr>,
    authorization: Option<String>,
    first: Vec<u8>,
    headers: String,
}

/// What came back for one webhook; times count from the moment before the connection was opened or, on one that was
/// open already, before the request was written.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Status line and headers, as they came.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
    /// When the last byte of the request was written.
    pub sent: Duration,
    /// When the first byte of the answer was read.
    pub answered: Duration,
}

/// How far a webhook came before it was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There was no connection.
    Connect,
    /// There was a connection, but no TLS on it.
    Handshake,
    /// The request could not be written.
    Request,
    /// There was no answer, or not a whole one.
    Answer,
}

/// A webhook that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer: {step} failed: {source}")]
pub struct Unanswered {
    /// The step that failed.
    pub step: Step,
    /// What the system or TLS said.
    pub source: io::Error,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::Handshake => "the TLS handshake",
            Self::Request => "writing the request",
            Self::Answer => "reading the answer",
        })
    }
}

impl Step {
    fn failed(self) -> impl Fn(io::Error) -> Unanswered {
        move |source| Unanswered { step: self, source }
    }
}

impl Sender {
    /// Without TLS.
    pub fn plain(to: SocketAddr, path: &str) -> Self {
        Self {
            to,
            path: path.to_owned(),
            tls: None,
            name: ServerName::try_from("localhost").expect("localhost is a name"),
            source: None,
            authorization: None,
            first: Vec::new(),
            headers: String::new(),
        }
    }

    /// Over TLS to a server whose certificate is for `localhost` and signed by the authority in `ca_file`.
    pub fn tls(to: SocketAddr, path: &str, ca_file: &Path) -> io::Result<Self> {
        Ok(Self {
            tls: Some(client_tls(ca_file)?),
            ..Self::plain(to, path)
        })
    }

    /// Over TLS to whoever has the key of the first certificate in `file`, whatever name is in it.
    pub fn to_holder(to: SocketAddr, path: &str, file: &Path) -> io::Result<Self> {
        let mut certificates = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
        let first = certificates.next().ok_or(io::ErrorKind::InvalidData)?;
        let known = Known {
            certificate: first.map_err(io::Error::other)?,
            provider: provider(),
        };
        let verified = versions()?.dangerous();
        let config = verified.with_custom_certificate_verifier(Arc::new(known));
        Ok(Self {
            tls: Some(http1(config.with_no_client_auth())),
            ..Self::plain(to, path)
        })
    }

    /// To a server with a certificate for this name.
    ///
    /// # Panics
    /// When it is no name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: ServerName::try_from(name.to_owned()).expect("a name"),
            ..self
        }
    }

    /// From this address of ours; otherwise the system chooses.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }

    /// With this whole `Authorization` value.
    #[must_use]
    pub fn authorization(self, value: &str) -> Self {
        Self {
            authorization: Some(value.to_owned()),
            ..self
        }
    }

    /// Through something that writes these bytes in front of everything else on a connection, before TLS.
    #[must_use]
    pub fn writing_first(self, bytes: &[u8]) -> Self {
        Self {
            first: bytes.to_owned(),
            ..self
        }
    }

    /// With one more header line, `Name: value`.
    #[must_use]
    pub fn header(mut self, line: &str) -> Self {
        self.headers += line;
        self.headers += "\r\n";
        self
    }

    /// Sends one webhook on a connection of its own.
    pub fn send(&self, body: &[u8]) -> Result<Reply, Unanswered> {
        let begun = Instant::now();
        self.connect()?
            .exchange(&self.request(body, "close"), begun)
    }

    /// Opens a connection that can take several, one after the other.
    pub fn connect(&self) -> Result<Connection<'_>, Unanswered> {
        self.over(self.tcp().map_err(Step::Connect.failed())?)
    }

    /// The same on a connection that is open already.
    pub fn over(&self, mut tcp: TcpStream) -> Result<Connection<'_>, Unanswered> {
        patient(&tcp).map_err(Step::Connect.failed())?;
        tcp.write_all(&self.first).map_err(Step::Connect.failed())?;
        let Some(tls) = &self.tls else {
            return Ok(Connection {
                sender: self,
                stream: Stream::Plain(tcp),
            });
        };
        let session =
            ClientConnection::new(Arc::clone(tls), self.name.clone()).map_err(io::Error::other);
        let mut session = session.map_err(Step::Handshake.failed())?;
        while session.is_handshaking() {
            session
                .complete_io(&mut tcp)
                .map_err(Step::Handshake.failed())?;
        }
        let stream = Stream::Tls(Box::new(StreamOwned::new(session, tcp)));
        Ok(Connection {
            sender: self,
            stream,
        })
    }

    /// The standard library cannot bind before it connects; tokio's socket can, and needs a runtime for that alone.
    fn tcp(&self) -> io::Result<TcpStream> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let stream = runtime.block_on(async {
            let socket = if self.to.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            if let Some(source) = self.source {
                socket.bind(SocketAddr::new(source, 0))?;
            }
            tokio::time::timeout(ANSWER_WAIT, socket.connect(self.to)).await?
        })?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    fn request(&self, body: &[u8], connection: &str) -> Vec<u8> {
        let (path, to, length, headers) = (&self.path, self.to, body.len(), &self.headers);
        let authorization = self
            .authorization
            .as_ref()
            .map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\n{authorization}{headers}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}

/// For as long as an answer may take.
fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))
}

fn versions() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

fn http1(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn client_tls(ca_file: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(io::Error::other)? {
        roots
            .add(certificate.map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
    }
    let config = versions()?.with_root_certificates(roots);
    Ok(http1(config.with_no_client_auth()))
}

/// An open connection to the receiver.
#[derive(Debug)]
pub struct Connection<'a> {
    sender: &'a Sender,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection<'_> {
    /// Sends one webhook and leaves the connection open for the next.
    pub fn send(&mut self, body: &[u8]) -> Result<Reply, Unanswered> {
        let request = self.sender.request(body, "keep-alive");
        self.exchange(&request, Instant::now())
    }

    /// Writes these bytes as they are, and reads one answer.
    pub fn send_raw(&mut self, request: &[u8]) -> Result<Reply, Unanswered> {
        self.exchange(request, Instant::now())
    }

    /// Writes these bytes as they are and waits for nothing.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Unanswered> {
        let stream = self.stream.both();
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        written.map_err(Step::Request.failed())
    }

    /// Everything that still comes until the connection ends, whatever ends it.
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end, too.
        drop(self.stream.both().read_to_end(&mut bytes));
        bytes
    }

    /// Reads one answer to what was written before.
    pub fn read(&mut self) -> Result<Reply, Unanswered> {
        let begun = Instant::now();
        read_reply(self.stream.both(), begun, Duration::ZERO).map_err(Step::Answer.failed())
    }

    /// Who is answered before everything was written, as with 413, may be unable to write the rest.
    fn exchange(&mut self, request: &[u8], begun: Instant) -> Result<Reply, Unanswered> {
        let written = self.write(request);
        let reply = read_reply(self.stream.both(), begun, begun.elapsed());
        match (reply, written) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(unwritten)) => Err(unwritten),
            (Err(error), Ok(())) => Err(Step::Answer.failed()(error)),
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

impl Stream {
    fn both(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.as_mut(),
        }
    }
}

fn read_reply(stream: &mut dyn ReadWrite, begun: Instant, sent: Duration) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    read_more(stream, &mut bytes)?;
    let answered = begun.elapsed();
    let body_at = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, &mut bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..body_at]).into_owned();
    let (status, length) = status_and_length(&head)?;
    while bytes.len() < body_at + length {
        read_more(stream, &mut bytes)?;
    }
    let body = bytes[body_at..body_at + length].to_vec();
    Ok(Reply {
        status,
        head,
        body,
        sent,
        answered,
    })
}

fn read_more(stream: &mut dyn ReadWrite, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut some = [0; 4096];
    match stream.read(&mut some)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if bytes.len() > ANSWER_BYTES_MAX => Err(io::Error::other("the answer is too large")),
        count => {
            bytes.extend_from_slice(&some[..count]);
            Ok(())
        }
    }
}

/// Status and length of the body; the answers to a webhook announce their length.
fn status_and_length(head: &str) -> io::Result<(u16, usize)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Ok(0), |(_, value)| {
        value.trim().parse().map_err(|_| wrong())
    })?;
    Ok((status.ok_or_else(wrong)?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_and_length() {
        let read = |head| status_and_length(head).ok();
        assert_eq!(
            read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
            Some((200, 2))
        );
        assert_eq!(read("HTTP/1.1 401 Unauthorized\r\n\r\n"), Some((401, 0)));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
            None
        );
    }
}
