//! belvo-gateway.
