//! What the gateway needs from the machine: time, log, secrets, certificates, media, the service manager, the crypto provider.
//! Nothing in here has heard of a webhook.

pub mod boot;
pub mod certificate;
pub mod chain;
pub mod clock;
pub mod code;
pub mod detour;
pub mod errors;
pub mod files;
pub mod handed_over;
pub mod logging;
pub mod medium;
pub mod notify;
pub mod secret;
pub mod stop;
pub mod times;
pub mod tls;
pub mod watch;
pub mod writeback;
