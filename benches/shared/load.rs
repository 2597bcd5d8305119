//! The load: webhooks as Belvo publishes them, over connections that each wait for one answer before they ask again.
//! Requests are built beforehand and answers are not parsed beyond their end, so that sending costs little beside
//! receiving. Knows HTTP, not who answers.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use belvo_gateway::system::tls::provider;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::program::PATH;

/// Nobody is slower than that unless something hangs.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Links that the webhooks are about, in turn: about as many as a box has.
const LINKS: u64 = 50;

/// Their ids.
pub(crate) fn links() -> impl Iterator<Item = String> {
    (0..LINKS).map(|number| format!("{LINK}{number:02}"))
}

/// How the webhooks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Over so many connections that stay open.
    Kept(usize),
    /// So many at once, each over a connection of its own.
    New(usize),
    /// The same with TLS and a whole handshake each time.
    Tls(usize),
    /// The same with TLS, and sessions that are resumed.
    Resumed(usize),
}

impl Load {
    /// Whether there is TLS.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls(_) | Self::Resumed(_))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(1) => f.write_str("1 connection"),
            Self::Kept(count) => write!(f, "{count} connections"),
            Self::New(count) => write!(f, "new, {count} at once"),
            Self::Tls(count) => write!(f, "new, TLS, {count} at once"),
            Self::Resumed(count) => write!(f, "resumed TLS, {count} at once"),
        }
    }
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// All webhooks that were answered 200, those before and after the measured time included.
    pub(crate) all: u64,
    /// How long each took that was answered within the measured time.
    pub(crate) latencies: Vec<Duration>,
}

/// Sends for `warm_up`, then for `window`, and waits for what is under way. An answer other than 200 is an error.
///
/// With TLS, `ca_file` has the authority that the server's certificate is of.
pub(crate) fn send(
    (to, ca_file): (SocketAddr, Option<&Path>),
    load: Load,
    warm_up: Duration,
    window: Duration,
) -> anyhow::Result<Answered> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let from = Instant::now() + warm_up;
    let measured = Measured {
        from,
        to: from + window,
    };
    let (Load::Kept(count) | Load::New(count) | Load::Tls(count) | Load::Resumed(count)) = load;
    let tls = ca_file
        .map(|ca_file| connector(load, ca_file))
        .transpose()?;
    runtime.block_on(async {
        let mut senders = JoinSet::new();
        for _ in 0..count {
            let webhook = Webhook::new(to, load);
            match load {
                Load::Kept(_) => senders.spawn(over_one(to, webhook, measured)),
                _ => senders.spawn(over_new(to, tls.clone(), webhook, measured)),
            };
        }
        let mut answered = Answered::default();
        while let Some(sender) = senders.join_next().await {
            let one = sender.context("a sender panicked")??;
            answered.all += one.all;
            answered.latencies.extend(one.latencies);
        }
        Ok(answered)
    })
}

#[derive(Clone, Copy)]
struct Measured {
    from: Instant,
    to: Instant,
}

impl Answered {
    /// Says whether to go on.
    fn count(&mut self, began: Instant, measured: Measured) -> bool {
        let now = Instant::now();
        self.all += 1;
        if (measured.from..measured.to).contains(&now) {
            self.latencies.push(now - began);
        }
        now < measured.to
    }
}

async fn over_one(
    to: SocketAddr,
    mut webhook: Webhook,
    measured: Measured,
) -> anyhow::Result<Answered> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut answered = Answered::default();
    loop {
        let began = Instant::now();
        exchange(&mut stream, webhook.next()).await?;
        if !answered.count(began, measured) {
            return Ok(answered);
        }
    }
}

async fn over_new(
    to: SocketAddr,
    tls: Option<TlsConnector>,
    mut webhook: Webhook,
    measured: Measured,
) -> anyhow::Result<Answered> {
    let mut answered = Answered::default();
    loop {
        let began = Instant::now();
        let mut stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        match &tls {
            None => exchange(&mut stream, webhook.next()).await?,
            Some(tls) => {
                let name = ServerName::try_from("localhost")?;
                let mut stream = tls.connect(name, stream).await?;
                exchange(&mut stream, webhook.next()).await?;
            }
        }
        if !answered.count(began, measured) {
            return Ok(answered);
        }
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    tokio::time::timeout(ANSWER_WAIT, read_200(stream))
        .await
        .context("no answer")?
}

/// Reads one answer, whose body is empty.
async fn read_200(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<()> {
    let mut bytes = [0; 1024];
    let mut length = 0;
    while !bytes[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes[length..]).await? {
            0 => bail!("the connection was closed before the end of the answer"),
            more => length += more,
        }
    }
    let answer = String::from_utf8_lossy(&bytes[..length]);
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

/// The sender's side of TLS. It verifies whom it asks, as everybody does.
fn connector(load: Load, ca_file: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !matches!(load, Load::Resumed(_)) {
        config.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// One webhook's request, made the next one by overwriting two ids.
struct Webhook {
    bytes: Vec<u8>,
    id_at: usize,
    link_at: usize,
    number: u64,
}

/// As long as an id is, and found nowhere else.
const ID: &str = "{-------- the webhook's id -----}";
const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d42000";

impl Webhook {
    fn new(to: SocketAddr, load: Load) -> Self {
        let id = &ID[..32];
        let body = format!(
            r#"{{"webhook_id":"{id}","webhook_type":"TRANSACTIONS","process_type":"historical_update","webhook_code":"historical_update","link_id":"{LINK}00","request_id":"4363b08b-51eb-4350-9c74-5df5ac92a7f6","external_id":"your_external_id","data":{{"total_transactions":19,"total_inflow_transactions":10,"total_outflow_transactions":9,"first_transaction_date":"2023-01-03","last_transaction_date":"2024-01-03"}}}}"#
        );
        let connection = match load {
            Load::Kept(_) => "keep-alive",
            _ => "close",
        };
        let length = body.len();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n{body}"
        );
        let at = |text| request.find(text).expect("it was just put in");
        Self {
            id_at: at(id),
            link_at: at(LINK) + LINK.len(),
            bytes: request.into_bytes(),
            number: fastrand::u64(..),
        }
    }

    fn next(&mut self) -> &[u8] {
        self.number = self.number.wrapping_add(1);
        let id = format!("{:032x}", self.number);
        self.bytes[self.id_at..][..32].copy_from_slice(id.as_bytes());
        let link = format!("{:02}", self.number % LINKS);
        self.bytes[self.link_at..][..2].copy_from_slice(link.as_bytes());
        &self.bytes
    }
}
