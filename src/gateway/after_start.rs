//! A second look at the file once it serves: longer than a start may take, and still bounded. What it finds is as if it
//! had shown in use: the next start sets the file aside.

use std::path::PathBuf;

use tokio::task::spawn_blocking;
use tracing::warn;

use crate::bookkeeper::log_opened;
use crate::database::{WriteError, damage};
use crate::store::verify::{self, Glance};
use crate::store::{Store, problems};
use crate::system::clock::UnixMs;

/// Looks, and writes down what is wrong with single webhooks.
///
/// # Errors
/// When the file is damaged, or the writer has ended.
pub(super) async fn look(state_directory: PathBuf, store: Store) -> Result<(), WriteError> {
    let directory = state_directory.clone();
    // On a thread of its own: nobody waits for it.
    let Ok(looked) = spawn_blocking(move || verify::glance(&directory)).await else {
        return Ok(());
    };
    let why = match looked {
        Ok(Glance::Well { differ }) => {
            let change = verify::problem(&differ);
            if let problems::Change::Open(problem) = &change {
                log_opened(problem);
            }
            return match store.problems(vec![change], UnixMs::now()).await {
                Err(WriteError::Ended) => Err(WriteError::Ended),
                // It is found again after the next start.
                Ok(()) | Err(_) => Ok(()),
            };
        }
        Ok(Glance::Damaged(why)) | Err(WriteError::Damaged(why)) => why,
        Err(error) => {
            warn!("the file could not be looked at: {error}");
            return Ok(());
        }
    };
    match damage::note_in_use(&state_directory, &why) {
        Ok(()) => Err(WriteError::Damaged(why)),
        Err(error) => {
            warn!("the file is damaged ({why}), which cannot be noted for the next start: {error}");
            Ok(())
        }
    }
}
