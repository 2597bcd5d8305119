//! Hearing of it when a file is changed or replaced, without looking at it again and again. Does not know what is in the file.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::net::unix::pipe::Receiver;

/// Changes of files, on file systems of this machine: what another machine does to a network share is not heard.
#[derive(Debug)]
pub struct Changes(Receiver);

impl Changes {
    /// None is followed yet. To be called inside a runtime.
    ///
    /// # Errors
    /// When the system has no room for it; it has for 128 a user.
    pub fn new() -> io::Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Not a pipe, and read as one: what is told comes in order and is gone when it was read.
        Receiver::from_owned_fd_unchecked(inotify).map(Self)
    }

    /// Follows the file at `path`, which need not exist, and where `path` is a link also the file that it leads to. Its
    /// directory is watched, since a file that is replaced is another one. Doing it again does no harm, and follows
    /// a link that leads elsewhere now.
    ///
    /// # Errors
    /// When a directory cannot be watched.
    pub fn follow(&self, path: &Path) -> io::Result<()> {
        let whole = WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        let named = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        for path in [Some(path.to_owned()), fs::canonicalize(path).ok()] {
            if let Some(directory) = path.as_deref().and_then(Path::parent) {
                add_watch(&self.0, directory, whole | named)?;
            }
        }
        Ok(())
    }

    /// Waits until something in one of the directories has changed.
    ///
    /// # Errors
    /// When the system does not tell any more.
    pub async fn come(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 4096]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn hears(changes: &Changes) -> bool {
        let heard = timeout(Duration::from_secs(10), changes.come()).await;
        heard.is_ok_and(|come| come.is_ok())
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_let_be_read_is_heard_of() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("served.pem");
        let changes = Changes::new().expect("a watch");
        changes.follow(&path).expect("a directory");
        fs::write(&path, "one").expect("a file");
        assert!(hears(&changes).await);
        fs::write(place.path().join("new"), "two").expect("a file");
        fs::rename(place.path().join("new"), &path).expect("a new name");
        assert!(hears(&changes).await);
    }

    #[tokio::test]
    async fn what_a_link_leads_to_is_heard_of() {
        let (links, files) = (tempfile::tempdir(), tempfile::tempdir());
        let (links, files) = (links.expect("a directory"), files.expect("a directory"));
        let (link, file) = (links.path().join("live"), files.path().join("archived"));
        fs::write(&file, "one").expect("a file");
        symlink(&file, &link).expect("a link");
        let changes = Changes::new().expect("a watch");
        changes.follow(&link).expect("two directories");
        fs::write(&file, "two").expect("a file");
        assert!(hears(&changes).await);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_an_error() {
        let changes = Changes::new().expect("a watch");
        assert!(changes.follow(Path::new("/nowhere/served.pem")).is_err());
    }
}
