//! Certificate and key files -> the TLS side of the listener: TLS 1.2 and 1.3, HTTP/1.1 only. The pair can be replaced
//! while the listener runs; connections and sessions that there are stay as they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, ServerConfig};
use thiserror::Error;

use crate::system::certificate::{Validity, validity};
use crate::system::files::{self, Mark, ReadError, mark};
use crate::system::secret;
use crate::system::tls::provider;

/// Why TLS cannot be offered.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate's file could not be read.
    #[error(transparent)]
    Certificate(#[from] ReadError),
    /// The key's file could not be read, or is open to everybody.
    #[error(transparent)]
    Key(#[from] secret::Error),
    /// A file holds something else.
    #[error("{} holds no {what}; it must be PEM text (-----BEGIN ...-----)", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A file ends before its last line.
    #[error("{} ends in the middle of a {what}; write it again, beside its place, and rename it when it is whole", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The times of the certificate cannot be read.
    #[error("{} has no validity that can be read; get a new certificate", .0.display())]
    Validity(PathBuf),
    /// rustls refuses the pair.
    #[error("the certificate {} and the key {} cannot be used together: {}", files.certificate.display(), files.key.display(), why(source))]
    Pair {
        /// The two files.
        files: Files,
        /// What rustls said.
        source: rustls::Error,
    },
    /// rustls refuses its configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

fn why(source: &rustls::Error) -> String {
    match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is another certificate's; the certificate's own file has to begin with the gateway's certificate, and the key must have been made with it".to_owned()
        }
        other => other.to_string(),
    }
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate chain, PEM, the gateway's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Files {
    /// What tells whether one of them was changed.
    pub fn marks(&self) -> [Mark; 2] {
        [mark(&self.certificate), mark(&self.key)]
    }

    /// Reads the pair.
    ///
    /// # Errors
    /// When a file cannot be read, is not PEM, or the two do not belong together.
    pub fn read(&self) -> Result<Pair, TlsError> {
        let chain = self.chain()?;
        let validity =
            validity(&chain[0]).ok_or_else(|| TlsError::Validity(self.certificate.clone()))?;
        let text = secret::read_text(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| not_pem(&self.key, "private key", &error))?;
        let certified =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|source| TlsError::Pair {
                files: self.clone(),
                source,
            })?;
        Ok(Pair {
            certified: Arc::new(certified),
            validity,
        })
    }

    /// The certificates, at least one.
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        const WHAT: &str = "certificate";
        let text = files::read_small(&self.certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| not_pem(&self.certificate, WHAT, &error))?;
        if chain.is_empty() {
            return Err(not_pem(&self.certificate, WHAT, &pem::Error::NoItemsFound));
        }
        Ok(chain)
    }
}

fn not_pem(path: &Path, what: &'static str, error: &pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::MissingSectionEnd { .. } => TlsError::Cut { path, what },
        _ => TlsError::Pem { path, what },
    }
}

/// A certificate chain and its key, which belong together.
#[derive(Debug)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl Pair {
    /// The certificates as a client gets them, the gateway's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

/// The pair that handshakes are answered with; without one, they fail.
#[derive(Debug)]
pub struct Held(RwLock<Option<Arc<CertifiedKey>>>);

impl Held {
    /// Answers with another pair from now on. The cache of sessions is not touched.
    pub fn replace(&self, pair: Pair) {
        // Whoever holds this lock only copies a pointer: a poisoned one is still whole.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(pair.certified);
    }
}

impl ResolvesServerCert for Held {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The server side of TLS, which answers with this pair, if there is one already, and the means to replace it.
///
/// # Errors
/// When rustls refuses the provider.
pub fn server(pair: Option<Pair>) -> Result<(Arc<ServerConfig>, Arc<Held>), TlsError> {
    let held = Arc::new(Held(RwLock::new(pair.map(|pair| pair.certified))));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Held>::clone(&held));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), held))
}

/// The protocol of a challenge (RFC 8737).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// A server side of TLS that does nothing but show this certificate to those who ask by that protocol.
pub(super) fn showing(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // The pair is ours, made together; and what rustls compares pairs with refuses the extension that answers a challenge.
    let key = provider().key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(vec![certificate], key);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}
