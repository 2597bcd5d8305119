//! The one handshake that anybody may make while a certificate is being asked for: an authority checks that we are who we
//! say by TLS-ALPN-01 (RFC 8737), from addresses that nobody publishes. It shows a certificate, and there is nothing
//! behind it: no byte of HTTP is read. Whoever asks for anything else is closed on before a byte is answered.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::tls::{ACME_TLS, showing};
use super::wire;
use crate::limits::{CHALLENGE_HELLO_BYTES_MAX, CHALLENGE_WAIT, CHALLENGES_AT_ONCE};

/// The challenge that is open, if one is.
#[derive(Debug)]
pub struct Challenges {
    open: RwLock<Option<Arc<Open>>>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Open {
    domain: String,
    config: Arc<ServerConfig>,
}

/// Ends the challenge when it is dropped.
#[derive(Debug)]
pub struct Opened(Arc<Challenges>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// One connection's turn to be looked at.
#[derive(Debug)]
pub(super) struct Turn {
    open: Arc<Open>,
    _permit: OwnedSemaphorePermit,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            open: RwLock::default(),
            turns: Arc::new(Semaphore::new(CHALLENGES_AT_ONCE)),
        }
    }
}

impl Challenges {
    /// Shows this certificate to those who ask for `domain` by the protocol of a challenge, until the value is dropped.
    ///
    /// # Errors
    /// When rustls refuses the pair.
    pub fn open(
        self: &Arc<Self>,
        domain: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Opened, rustls::Error> {
        self.set(Some(Arc::new(Open {
            domain: domain.to_owned(),
            config: Arc::new(showing(certificate, key)?),
        })));
        Ok(Opened(Arc::clone(self)))
    }

    fn set(&self, open: Option<Arc<Open>>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// A turn for a stranger, while a challenge is open and few others have theirs.
    pub(super) fn turn(&self) -> Option<Turn> {
        let open = self
            .open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(Turn {
            open,
            _permit: permit,
        })
    }
}

impl Turn {
    /// Looks at the first bytes (`before` were read already) and makes the handshake if it is the one; says whether it was.
    pub(super) async fn serve(self, mut stream: TcpStream, mut before: Vec<u8>) -> bool {
        let handshake = async {
            if !self.is_asked_for(&mut stream, &mut before).await {
                return false;
            }
            let (stream, _) = wire::wire(stream, before);
            let acceptor = TlsAcceptor::from(Arc::clone(&self.open.config));
            match acceptor.accept(stream).await {
                // The certificate was all there was to say. However it ends, the connection is over.
                Ok(mut shown) => shown.shutdown().await.is_ok(),
                Err(_) => false,
            }
        };
        timeout(CHALLENGE_WAIT, handshake).await.unwrap_or(false)
    }

    /// Reads until the hello is whole. Nothing is answered, not even an alert.
    async fn is_asked_for(&self, stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
        loop {
            let mut acceptor = Acceptor::default();
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                if acceptor.read_tls(&mut unread).is_err() {
                    return false;
                }
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let mut protocols = hello.alpn().into_iter().flatten();
                    return protocols.next() == Some(ACME_TLS)
                        && protocols.next().is_none()
                        && hello.server_name() == Some(&self.open.domain);
                }
                Err(_) => return false,
                Ok(None) => {}
            }
            let room = CHALLENGE_HELLO_BYTES_MAX.saturating_sub(bytes.len()) as u64;
            if !matches!(stream.take(room).read_buf(bytes).await, Ok(1..)) {
                return false;
            }
        }
    }
}
