//! The API keys in their files: read, followed when they change, and turned into the client that the API is asked with, so
//! that new keys need no restart. Knows nothing of what they are used for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::client::{Client, Keys, Roots, SetupError, Target, are_same_roots};
use crate::limits::KEYS_LOOK_EVERY;
use crate::system::errors::sentence;
use crate::system::files::{Mark, mark};
use crate::system::secret::{self, Secret};

/// The two files that hold the API keys.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// What the API is asked with, as long as the process runs.
#[derive(Debug)]
pub struct Access {
    target: Target,
    files: Option<KeyFiles>,
    seen: [Mark; 2],
    keys: Option<Keys>,
    clients: watch::Sender<Option<Arc<Client>>>,
}

impl Access {
    /// Makes the first client, if there are keys.
    ///
    /// # Errors
    /// When TLS or the keys cannot be used.
    pub fn new(
        target: Target,
        files: Option<KeyFiles>,
        keys: Option<Keys>,
    ) -> Result<Self, SetupError> {
        let client = client(&target, keys.as_ref())?;
        Ok(Self {
            target,
            seen: files.as_ref().map(KeyFiles::marks).unwrap_or_default(),
            files,
            keys,
            clients: watch::channel(client).0,
        })
    }

    /// The client of the moment, and every later one.
    pub fn clients(&self) -> watch::Receiver<Option<Arc<Client>>> {
        self.clients.subscribe()
    }

    /// Waits until it is time to look: a while after the keys were refused, and after each look for as long as they are.
    pub async fn look_is_due(&self) {
        let client = self.clients.borrow().clone();
        match client {
            Some(client) => client.refused().await,
            None => std::future::pending().await,
        }
        sleep(KEYS_LOOK_EVERY).await;
    }

    /// Makes a new client when a file was changed, both can be used, and the keys are others.
    pub fn look(&mut self) {
        let Some(files) = &self.files else { return };
        let marks = files.marks();
        if marks == self.seen {
            return;
        }
        self.seen = marks;
        let renewed = match files.read() {
            Ok(keys) => self
                .renew(Some(keys), self.target.roots.clone())
                .map_err(|error| sentence(&error)),
            Err(error) => Err(sentence(&error)),
        };
        match renewed {
            Ok(true) => {
                info!("the files of the API keys have changed, the new keys are used");
            }
            Ok(false) => {}
            Err(why) => warn!(
                "the files of the API keys have changed and cannot be used, the old keys are kept: {why}"
            ),
        }
    }

    /// Asks with these keys from now on, and follows these files. A client that would be the same stays.
    ///
    /// # Errors
    /// When TLS or the keys cannot be used; then everything stays as it was.
    pub fn replace(
        &mut self,
        files: Option<KeyFiles>,
        keys: Option<Keys>,
        roots: Roots,
    ) -> Result<(), SetupError> {
        self.renew(keys, roots)?;
        if files != self.files {
            self.files = files;
            // Whatever came into them since they were read is seen at the next look.
            self.seen = [None, None];
        }
        Ok(())
    }

    fn renew(&mut self, keys: Option<Keys>, roots: Roots) -> Result<bool, SetupError> {
        if are_same(self.keys.as_ref(), keys.as_ref()) && are_same_roots(&self.target.roots, &roots)
        {
            return Ok(false);
        }
        let target = Target {
            base_url: self.target.base_url.clone(),
            roots,
        };
        let client = client(&target, keys.as_ref())?;
        (self.target, self.keys) = (target, keys);
        self.clients.send_replace(client);
        Ok(true)
    }
}

fn client(target: &Target, keys: Option<&Keys>) -> Result<Option<Arc<Client>>, SetupError> {
    keys.map(|keys| Client::new(target, keys).map(Arc::new))
        .transpose()
}

fn are_same(one: Option<&Keys>, other: Option<&Keys>) -> bool {
    let same = |one: &Secret, other: &Secret| one.is(other.expose().as_bytes());
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            same(&one.id, &other.id) && same(&one.password, &other.password)
        }
        _ => false,
    }
}
