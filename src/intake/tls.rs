//! Certificate and key files -> the TLS side of the listener: TLS 1.2 and 1.3, HTTP/1.1 only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::system::files::{self, ReadError};
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
    /// rustls refuses the pair.
    #[error("the certificate {} and the key {} cannot be used together: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The server side of TLS with this certificate chain and key.
///
/// # Errors
/// When a file cannot be read, is not PEM, or the two do not belong together.
pub fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem {
        path: path.to_owned(),
        what,
    };
    let text = files::read_small(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| pem(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(pem(certificate, "certificate"));
    }
    let private = PrivateKeyDer::from_pem_slice(secret::read_text(key)?.as_bytes())
        .map_err(|_| pem(key, "private key"))?;
    let pair = |source| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
