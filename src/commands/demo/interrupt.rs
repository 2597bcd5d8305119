//! Ctrl-C and SIGTERM for the demo, so that it always takes its gateway with it. It only tells that they came; who waits
//! decides what that means.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// From now on the signals end the demo in order, not at once.
#[derive(Debug)]
pub(super) struct Interrupt {
    came: Receiver<()>,
}

impl Interrupt {
    pub(super) fn watch() -> anyhow::Result<Self> {
        let (sender, came) = mpsc::channel();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot wait for Ctrl-C")?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).context("cannot wait for Ctrl-C");
            (
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
            )
        };
        let watch = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            // Nobody listens when the demo is over already.
            sender.send(()).ok();
        };
        thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(watch)
            .context("cannot start a thread")?;
        Ok(Self { came })
    }

    /// Waits for a signal, and says whether one came.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        self.came.recv_timeout(timeout).is_ok()
    }
}
