//! Telling long-lived tasks to stop, once and for all of them. Knows none of them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// Tells everybody who holds its [`Stop`] to stop; dropping it does the same.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Learns that it is time to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A pair of the two.
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Tells them.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether it was told.
    pub fn is_told(&self) -> bool {
        // Nobody is left to tell us, which means the same.
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until told, and then for what is left to others.
    pub async fn told_for(&mut self, wait: Duration) {
        self.told().await;
        sleep(wait).await;
    }

    /// Waits until told. Told once, it returns at once for ever.
    pub async fn told(&mut self) {
        // An error means that nobody is left to tell us, which means the same.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
