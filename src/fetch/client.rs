//! hyper and rustls: one GET, its deadline, its size limit. Follows no redirect, keeps no cookie, reads no proxy variable,
//! and talks to the configured host alone. Knows nothing of what is in an answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error as ThisError;
use tokio::sync::watch;

use super::error::{Class, code_and_request_id};
use super::{Api, Cause, Error, Request as Asked};
use crate::limits::{
    ANSWER_HEAD_BYTES_MAX, CONNECT_WAIT, CONNECTION_IDLE, FETCHES_AT_ONCE, REQUEST_WAIT,
};
use crate::system::clock;
use crate::system::errors::sentence;
use crate::system::files::{self, ReadError};
use crate::system::secret::Secret;
use crate::system::tls::provider;

/// Where the API is: the origin, without a path.
#[derive(Clone, Debug)]
pub struct Target {
    /// `https://host` or, to a loopback address, `http://host:port`.
    pub base_url: Uri,
    /// Certificates to trust in place of the system's.
    pub roots: Roots,
}

/// Certificates to trust in place of the system's, if there are any.
pub type Roots = Option<Arc<RootCertStore>>;

/// The API keys of one environment.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The secret id, the user name of Basic authentication.
    pub id: Secret,
    /// The secret password.
    pub password: Secret,
}

/// Why no client can be made.
#[derive(Debug, ThisError)]
pub enum SetupError {
    /// The file of certificates could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file holds no certificate.
    #[error("{0} holds no usable certificate; it must be PEM text (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    /// rustls refused its configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The keys cannot be put into a header.
    #[error("the API keys hold bytes that cannot be sent in a header")]
    Keys,
}

/// The certificates in a PEM file, to be trusted in place of the system's.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn roots_from(path: &Path) -> Result<RootCertStore, SetupError> {
    let text = files::read_small(path)?;
    let none = || SetupError::NoCertificate(path.display().to_string());
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| none())?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(none()) } else { Ok(roots) }
}

/// Whether the same certificates are trusted.
pub(super) fn are_same_roots(one: &Roots, other: &Roots) -> bool {
    let anchors = |roots: &Roots| roots.as_ref().map(|roots| roots.roots.clone());
    anchors(one) == anchors(other)
}

/// The system's certificates, which its own updates keep fresh; the built-in ones only where the system has none.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// TCP and TLS to servers that these roots, or the system's, vouch for.
pub(crate) fn connector(
    roots: &Roots,
    plain: bool,
) -> Result<HttpsConnector<HttpConnector>, SetupError> {
    let roots = roots.clone().unwrap_or_else(|| Arc::new(system_roots()));
    let tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_WAIT));
    tcp.set_nodelay(true);
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
    let builder = match plain {
        true => builder.https_or_http(),
        false => builder.https_only(),
    };
    Ok(builder.enable_http1().wrap_connector(tcp))
}

/// A client of Belvo's API.
#[derive(Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    headers: HeaderMap,
    /// Whether the API refused its keys when it was asked last.
    refused: watch::Sender<bool>,
}

impl Client {
    /// Makes a client. Reads the system's certificates when the target names none; makes no connection yet.
    ///
    /// # Errors
    /// When TLS or the keys cannot be used.
    pub fn new(target: &Target, keys: &Keys) -> Result<Self, SetupError> {
        let plain = target.base_url.scheme_str() == Some("http");
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_max_idle_per_host(FETCHES_AT_ONCE)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .build(connector(&target.roots, plain)?);
        let base = target.base_url.to_string().trim_end_matches('/').to_owned();
        Ok(Self {
            pool,
            base,
            headers: headers(keys)?,
            refused: watch::Sender::new(false),
        })
    }

    /// Waits until the API refuses the keys.
    pub(super) async fn refused(&self) {
        // Its sender is here.
        drop(self.refused.subscribe().wait_for(|refused| *refused).await);
    }

    fn note(&self, is_refused: bool) {
        let is_news = |noted: &mut bool| std::mem::replace(noted, is_refused) != is_refused;
        self.refused.send_if_modified(is_news);
    }

    async fn whole(&self, asked: &Asked) -> Result<Vec<u8>, Error> {
        let error = |cause| Error::new(&asked.path, asked.page, cause);
        let request = self
            .request(asked)
            .map_err(|text| error(Cause::Network(text)))?;
        let answer = self
            .pool
            .request(request)
            .await
            .map_err(|source| error(Cause::Network(sentence(&source))))?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER);
        let retry_after = after
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, SystemTime::now()));
        let body = whole(answer, asked.bytes_max).await.map_err(error)?;
        if status.is_success() {
            return Ok(body);
        }
        let (code, request_id) = code_and_request_id(&body);
        Err(Error {
            request_id,
            retry_after,
            ..error(Cause::Status {
                status: status.as_u16(),
                code,
            })
        })
    }

    fn request(&self, asked: &Asked) -> Result<Request<Full<Bytes>>, String> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&asked.query)
            .finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::get(format!("{}{}{mark}{query}", self.base, asked.path))
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

impl Api for Client {
    async fn ready(&self) {
        if self.base.starts_with("https:") {
            clock::until_trusted().await;
        }
    }

    async fn get(&self, request: &Asked) -> Result<Vec<u8>, Error> {
        let late = || Error::new(&request.path, request.page, Cause::Timeout);
        let answer = tokio::time::timeout(REQUEST_WAIT, self.whole(request))
            .await
            .unwrap_or_else(|_| Err(late()));
        match &answer {
            Ok(_) => self.note(false),
            Err(error) if error.class() == Class::Credentials => self.note(true),
            // It does not say whether the keys are right.
            Err(_) => {}
        }
        answer
    }
}

fn headers(keys: &Keys) -> Result<HeaderMap, SetupError> {
    let basic = STANDARD.encode(format!("{}:{}", keys.id.expose(), keys.password.expose()));
    let mut authorization =
        HeaderValue::try_from(format!("Basic {basic}")).map_err(|_| SetupError::Keys)?;
    authorization.set_sensitive(true);
    let agent = concat!("belvo-gateway/", env!("CARGO_PKG_VERSION"));
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, authorization),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(agent)),
    ]))
}

/// The body, put together once: a page may have several MiB.
async fn whole(answer: Response<Incoming>, bytes_max: usize) -> Result<Vec<u8>, Cause> {
    let body = answer.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(Cause::TooLarge);
    }
    let (mut body, mut bytes) = (Limited::new(body, bytes_max), Vec::new());
    bytes.reserve_exact(announced);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Cause::TooLarge);
            }
            Err(error) => return Err(Cause::Network(sentence(error.as_ref()))),
        }
    }
    Ok(bytes)
}

/// The value of `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let date = || {
        httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .ok()
    };
    value.parse().ok().map(Duration::from_secs).or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let read = |value| retry_after(value, UNIX_EPOCH + Duration::from_secs(784_111_777 - 60));
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(read("soon"), None);
    }
}
