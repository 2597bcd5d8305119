//! The way to an ACME server: the same TCP, TLS and roots as to Belvo's API, with a deadline and a size limit. Knows nothing
//! of what is asked.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::time::timeout;

use crate::fetch::{Roots, SetupError, connector};
use crate::limits::{ACME_ANSWER_BYTES_MAX, ACME_REQUEST_WAIT};

/// A client for one certificate's worth of requests.
/// With the kind of body that the client of the API has, too: a second kind is a second copy of the whole HTTP client.
pub(super) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// Makes a client that trusts these roots, or the system's; makes no connection yet.
    ///
    /// # Errors
    /// When TLS cannot be used.
    pub(super) fn new(roots: &Roots) -> Result<Self, SetupError> {
        let connector = connector(roots, false)?;
        // A request on a connection of its own: they are few, and minutes may lie between them.
        let pool = Pool::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self(pool))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        // RFC 8555 section 6.1 asks for it.
        let agent = concat!("belvo-gateway/", env!("CARGO_PKG_VERSION"));
        let agent = HeaderValue::from_static(agent);
        let pool = self.0.clone();
        let whole = async move {
            let (mut parts, body) = request.into_parts();
            parts.headers.insert(USER_AGENT, agent);
            let body = Full::new(body.collect().await.map_err(other)?.to_bytes());
            let answer = pool.request(Request::from_parts(parts, body)).await;
            let (parts, body) = answer.map_err(other)?.into_parts();
            let body = Limited::new(body, ACME_ANSWER_BYTES_MAX).collect().await;
            let body = Full::new(body.map_err(Error::Other)?.to_bytes());
            Ok(hyper::Response::from_parts(parts, body).into())
        };
        Box::pin(async {
            timeout(ACME_REQUEST_WAIT, whole)
                .await
                .unwrap_or_else(|late| Err(other(late)))
        })
    }
}

fn other(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
