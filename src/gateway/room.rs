//! Says in the list of problems that the disk has too little room, and that it is over. What follows from it for webhooks
//! is the writer's and the intake's business.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::room::{Level, Room};
use crate::limits::ROOM_SETTLED;
use crate::store::problems::{Change, Kind, Problem};

/// What is known of the room on the disk.
#[derive(Debug)]
pub(super) struct Disk {
    told: watch::Receiver<Room>,
    /// As it was found when there was last too little, while that is a problem.
    short: Option<Room>,
    /// When there will have been enough for long.
    settled_at: Option<Instant>,
}

impl Disk {
    pub(super) fn new(mut told: watch::Receiver<Room>) -> Self {
        // What was found at the start is news as well.
        told.mark_changed();
        Self {
            told,
            short: None,
            settled_at: None,
        }
    }

    /// Waits until the problem comes, changes or goes.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::select! {
                told = self.told.changed() => match told {
                    Ok(()) if self.look() => return,
                    Ok(()) => {}
                    // The writer has ended, and the process with it.
                    Err(_) => std::future::pending().await,
                },
                () = settled(self.settled_at) => {
                    (self.short, self.settled_at) = (None, None);
                    return;
                }
            }
        }
    }

    /// Takes in what was told; says whether the problem has come or changed. It goes only when there was enough for a while.
    fn look(&mut self) -> bool {
        let room = *self.told.borrow_and_update();
        if room.level == Level::Enough {
            self.settled_at = self.short.map(|_| Instant::now() + ROOM_SETTLED);
            return false;
        }
        self.settled_at = None;
        let before = self.short.replace(room);
        before.map(|before| before.level) != Some(room.level)
    }

    /// The problem, come or gone.
    pub(super) fn problem(&self) -> Change {
        let (kind, subject) = (Kind::DiskLow, String::new());
        let Some(room) = self.short else {
            return Change::Close(kind, subject);
        };
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let (free, needed) = (mib(room.free), mib(room.needed));
        let text = match room.level {
            Level::Out => "the disk is full: webhooks are answered 503, and the ballast was given up so that what was kept can still be worked on".to_owned(),
            _ => format!("the disk has too little room, {free} MiB: webhooks are answered 503, and what was kept is worked on"),
        };
        let next_step = format!(
            "make room on the file system of the state directory until {needed} MiB are free (du -x, journalctl --vacuum-size=50M), or lower keep-days or disk-floor-mib under [storage]; webhooks are taken again at once, and this goes by itself"
        );
        Change::Open(Problem {
            kind,
            subject,
            text,
            next_step,
            evidence: None,
        })
    }
}

/// Waits until then, if there is such a time.
pub(super) async fn settled(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn room(level: Level) -> Room {
        Room {
            level,
            free: 0,
            needed: 72 * 1024 * 1024,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_problem_goes_when_there_was_enough_room_for_a_while() {
        let told = watch::Sender::new(Room::default());
        let mut disk = Disk::new(told.subscribe());
        assert!(matches!(disk.problem(), Change::Close(Kind::DiskLow, _)));
        told.send_replace(room(Level::Low));
        disk.changed().await;
        told.send_replace(room(Level::Out));
        disk.changed().await;
        assert!(matches!(disk.problem(), Change::Open(_)));
        for level in [Level::Enough, Level::Out, Level::Enough] {
            told.send_replace(room(level));
            let moment = tokio::time::timeout(Duration::from_secs(1), disk.changed());
            assert!(moment.await.is_err(), "to and fro is no news");
        }
        let begun = Instant::now();
        disk.changed().await;
        assert!(begun.elapsed() > Duration::from_secs(1));
        assert!(matches!(disk.problem(), Change::Close(Kind::DiskLow, _)));
    }
}
