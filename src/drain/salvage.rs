//! Brings back what can be read of damaged files that were set aside, beside everything else and a few rows at a time. It
//! goes on where it was after a restart. Decides nothing about rows; which are copied, the store knows.

use std::future::pending;
use std::io;
use std::path::PathBuf;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::plan;
use crate::database::remains::Remains;
use crate::database::room::{Level, Room};
use crate::database::{Reader, WriteError, open_reader};
use crate::journal;
use crate::limits::{
    FILE_FAILED_WAIT, FILE_FAILED_WAIT_MAX, PLAN_ROWS_MAX, SALVAGE_PAGES_MAX, SET_ASIDE_LOOK_EVERY,
    STORE_BYTES_MAX, STORE_OBJECTS_MAX,
};
use crate::store::salvage::{self, Copied, Salvage, Shapes, Step};
use crate::store::{Store, Times};
use crate::system::clock::Clock;
use crate::webhook::Seq;

/// Who brings it back.
#[derive(Clone, Debug)]
pub struct Salvager {
    /// Where the damaged files are.
    pub state_directory: PathBuf,
    /// Where they are copied to.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// The room on the disk.
    pub room: watch::Receiver<Room>,
}

impl Salvager {
    /// Brings back what must be known before anything is planned or fetched.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn state_first(&self) -> Result<(), WriteError> {
        self.until_done(|step| step == Step::State).await
    }

    /// Brings back the rest, and then sees when a damaged file is removed. Goes on for ever.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn run(&self) -> Result<(), WriteError> {
        self.until_done(|_| true).await?;
        loop {
            match self.see_to_removed().await {
                Err(WriteError::Ended) => return Err(WriteError::Ended),
                // The next one is set aside at a start.
                Ok(false) => return pending().await,
                Ok(true) | Err(_) => sleep(SET_ASIDE_LOOK_EVERY).await,
            }
        }
    }

    /// Does all steps of this kind. What fails is tried again, after pauses that grow.
    async fn until_done(&self, wanted: impl Fn(Step) -> bool) -> Result<(), WriteError> {
        let mut wait = FILE_FAILED_WAIT;
        loop {
            match self.work(&wanted).await {
                Err(WriteError::Ended) => return Err(WriteError::Ended),
                Err(error) => {
                    warn!(
                        seconds = wait.as_secs(),
                        "a damaged file could not be salvaged, it is tried again: {error}"
                    );
                    sleep(wait).await;
                    wait = (wait * 2).min(FILE_FAILED_WAIT_MAX);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn work(&self, wanted: impl Fn(Step) -> bool) -> Result<(), WriteError> {
        for mut open in salvage::open(&self.reader()?)? {
            while wanted(open.step) && open.step != Step::Over {
                if !self.step(&open).await? {
                    break;
                }
                let (file, now) = (open.file.clone(), self.clock.wall());
                open.step = self.store.salvaged(file, open.step, now).await?;
                open.next = 1;
                if open.step == Step::Over {
                    info!("what can be read of {} was copied", open.file);
                }
            }
        }
        Ok(())
    }

    /// Does one step of one file to its end; false when the file is gone.
    async fn step(&self, open: &Salvage) -> Result<bool, WriteError> {
        if open.step == Step::Plans {
            return self.plan(open).await.map(|()| true);
        }
        let remains = match Remains::open(&self.state_directory.join(&open.file)) {
            Ok(remains) => remains,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.store
                    .removed(open.file.clone(), self.clock.wall())
                    .await?;
                return Ok(false);
            }
            Err(error) => return Err(WriteError::Database(error.to_string())),
        };
        let shapes = Shapes::new()?;
        let mut page = u32::try_from(open.next).unwrap_or(1);
        while page <= remains.pages() {
            if open.step == Step::Content {
                self.room().await?;
            }
            page = self.copy_some(open, &remains, &shapes, page).await?;
        }
        Ok(true)
    }

    /// Waits until the disk has room for more than what comes.
    async fn room(&self) -> Result<(), WriteError> {
        let mut room = self.room.clone();
        let enough = room.wait_for(|room| room.level == Level::Enough).await;
        enough.map(drop).map_err(|_| WriteError::Ended)
    }

    /// Copies what some pages hold, and says with which to go on.
    async fn copy_some(
        &self,
        open: &Salvage,
        remains: &Remains,
        shapes: &Shapes,
        from: u32,
    ) -> Result<u32, WriteError> {
        let (mut rows, mut bytes, mut unreadable, mut page) = (Vec::new(), 0, 0, from);
        while page <= remains.pages()
            && page - from < SALVAGE_PAGES_MAX
            && rows.len() < STORE_OBJECTS_MAX
            && bytes < STORE_BYTES_MAX
        {
            let found = remains.found(page);
            unreadable += found.unreadable;
            for row in found.rows {
                match shapes.recognise(row, open.step, remains.is_doubtful(page)) {
                    Ok(Some(row)) => {
                        bytes += row.bytes();
                        rows.push(row);
                    }
                    Ok(None) => {}
                    Err(salvage::Damaged) => unreadable += 1,
                }
            }
            page += 1;
        }
        self.put(open, rows, unreadable, page).await?;
        tokio::task::yield_now().await;
        Ok(page)
    }

    /// Puts the rows, in several changes where they are many: the last of them moves on.
    async fn put(
        &self,
        open: &Salvage,
        rows: Vec<Copied>,
        unreadable: u64,
        next: u32,
    ) -> Result<(), WriteError> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for row in rows {
            bytes += row.bytes();
            part.push(row);
            if part.len() >= STORE_OBJECTS_MAX || bytes >= STORE_BYTES_MAX {
                let part = std::mem::take(&mut part);
                self.store.salvage(open.file.clone(), part, 0, None).await?;
                bytes = 0;
            }
        }
        let (file, next) = (open.file.clone(), Some(next.into()));
        self.store.salvage(file, part, unreadable, next).await
    }

    /// Plans what was not planned, or led to something that could not be read. Twice does no harm.
    async fn plan(&self, open: &Salvage) -> Result<(), WriteError> {
        let mut cursor = Seq(open.next - 1);
        loop {
            let reader = self.reader()?;
            let seqs = salvage::unplanned(&reader, cursor, open.newest_seq, PLAN_ROWS_MAX)?;
            let Some(last) = seqs.last() else {
                return Ok(());
            };
            cursor = *last;
            let mut planned = Vec::new();
            for seq in seqs {
                planned.extend(journal::at(&reader, seq)?.map(|row| plan::Planned {
                    // That its sender passed then says nothing about now.
                    authorized: None,
                    ..plan::plan(row.seq, &row.peer, &row.body)
                }));
            }
            self.store
                .plan(planned.into(), Times::of(&self.clock))
                .await?;
            let next = Some(cursor.0 + 1);
            self.store
                .salvage(open.file.clone(), Vec::new(), 0, next)
                .await?;
        }
    }

    /// What a person has removed is over. Says whether there is anything to be removed.
    async fn see_to_removed(&self) -> Result<bool, WriteError> {
        let kept = salvage::kept(&self.reader()?)?;
        let is_any = !kept.is_empty();
        for file in kept {
            let gone = ["", "-wal"].iter().all(|suffix| {
                let path = self.state_directory.join(format!("{file}{suffix}"));
                path.try_exists().is_ok_and(|there| !there)
            });
            if gone {
                self.store.removed(file, self.clock.wall()).await?;
            }
        }
        Ok(is_any)
    }

    fn reader(&self) -> Result<Reader, WriteError> {
        Ok(open_reader(&self.state_directory)?)
    }
}
