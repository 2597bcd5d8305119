//! In place of `renewal` in a program that was built without the feature `acme`: the configuration takes no other mode then.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::Acme;
use crate::database::WriteError;
use crate::fetch::Roots;
use crate::intake::Intake;
use crate::store::Store;
use crate::system::stop::Stop;

/// What would be needed to ask.
#[derive(Debug)]
#[expect(dead_code, reason = "nobody asks")]
pub(super) struct Renewal {
    pub(super) acme: Acme,
    pub(super) roots: Roots,
    pub(super) state_directory: PathBuf,
    pub(super) intake: Arc<Intake>,
    pub(super) renewed: Arc<Notify>,
}

impl Renewal {
    /// Does nothing.
    pub(super) async fn run(self, _: Store, _: Stop) -> Result<(), WriteError> {
        Ok(())
    }
}
