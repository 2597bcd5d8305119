//! Everything that a request is judged by and that may change while the gateway runs, as one value: a connection and a
//! request each take the one that holds when they begin, and see no half of another. Knows no sockets and no files.

use super::auth::Authorization;
use super::source::AllowList;

/// The rules that hold at one time.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The sources that may speak.
    pub allow: AllowList,
    /// The `Authorization` values that count.
    pub authorization: Authorization,
}
