//! The one place that names the crypto provider. Does not know who connects to whom.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider that the server, the client, the stand-in and the tests take. Moving to another one is a change here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
