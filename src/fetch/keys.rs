//! The API keys in their files: read, and followed when they change, so that new keys need no restart. Knows nothing of
//! what they are used for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::client::{Client, Keys, Target};
use crate::limits::KEYS_LOOK_EVERY;
use crate::system::errors::sentence;
use crate::system::files::{Mark, mark};
use crate::system::secret;

/// The two files that hold the API keys.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The secret id.
    pub id: PathBuf,
    /// The secret password.
    pub password: PathBuf,
}

impl KeyFiles {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be read, is open to everybody, or is empty.
    pub fn read(&self) -> Result<Keys, secret::Error> {
        let first = |path: &Path| secret::read_lines(path).map(|mut values| values.swap_remove(0));
        Ok(Keys {
            id: first(&self.id)?,
            password: first(&self.password)?,
        })
    }

    fn marks(&self) -> [Mark; 2] {
        [&self.id, &self.password].map(|path| mark(path))
    }

    /// Makes a new client whenever a file was changed and both can be used. Never ends.
    pub async fn follow(self, target: Target, clients: watch::Sender<Option<Arc<Client>>>) {
        let mut seen = self.marks();
        let mut tick = interval(KEYS_LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let marks = self.marks();
            if marks == seen {
                continue;
            }
            seen = marks;
            match self.client(&target) {
                Ok(client) => {
                    info!("the files of the API keys have changed, the new keys are used");
                    clients.send_replace(Some(Arc::new(client)));
                }
                Err(why) => warn!(
                    "the files of the API keys have changed and cannot be used, the old keys are kept: {why}"
                ),
            }
        }
    }

    fn client(&self, target: &Target) -> Result<Client, String> {
        let keys = self.read().map_err(|error| sentence(&error))?;
        Client::new(target, &keys).map_err(|error| sentence(&error))
    }
}
