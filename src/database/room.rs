//! The room on the file system of the state directory: whether there is enough to take webhooks, and the ballast, a file
//! that only takes up room, to be given up when SQLite finds none. Knows the disk, and nothing of what is written.
//!
//! Below the floor the intake answers 503 before it reads a body, so that what is left is for the drain, for pruning and
//! for operators. Where not even they can write any more, the ballast goes, and comes back when there is room again.
//! The writer's thread looks after it has written something, once a second at most, and several times a second while
//! there is not enough: an idle gateway with room is never woken up for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::limits::{
    BALLAST_AGAIN, BALLAST_MIB, BALLAST_WAIT, DISK_FLOOR_MIB, FLOOR_MARGIN_PART, FLOOR_PART,
    ROOM_LOOK_EVERY, ROOM_LOOK_PAGES, ROOM_RAN_OUT_WAIT, ROOM_SHORT_LOOK_EVERY, WAL_BYTES_MAX,
};

/// The name of the ballast in the state directory.
pub const BALLAST_NAME: &str = "ballast";

/// What is to be kept free, and how large the ballast is; on a small file system both are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Below this no webhook is taken.
    pub bytes: u64,
    /// The size of the ballast; none at 0.
    pub ballast_bytes: u64,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            bytes: DISK_FLOOR_MIB * 1024 * 1024,
            ballast_bytes: BALLAST_MIB * 1024 * 1024,
        }
    }
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// For everything.
    #[default]
    Enough,
    /// Less than the floor: for everything but webhooks.
    Low,
    /// SQLite found none; the ballast has been given up.
    Out,
}

/// The room as it was found when its level changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Whether it is enough.
    pub level: Level,
    /// Bytes that can still be written: free ones of the file system, and free pages of the file.
    pub free: u64,
    /// Bytes with which it is enough again.
    pub needed: u64,
}

/// A file system, as it says of itself.
#[derive(Clone, Copy, Debug)]
struct Space {
    /// For a user who is not root.
    free: u64,
    total: u64,
}

impl Space {
    fn of(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Bytes that are free but for what the file will grow by.
    fn outside(self, inside: Inside) -> u64 {
        self.free.saturating_sub(inside.owed)
    }
}

/// What the file itself says about room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inside {
    /// Bytes in its free pages, which can be written without more of the disk.
    pub(super) reusable: u64,
    /// Bytes by which it will grow when the WAL is copied into it.
    pub(super) owed: u64,
}

impl Floor {
    /// The floor on a file system of this size.
    pub fn on(self, total: u64) -> u64 {
        self.bytes.min(total / FLOOR_PART)
    }

    /// What others leave free on one of this size: twice the floor, so that webhooks do not end at it at once.
    pub fn kept_on(self, total: u64) -> u64 {
        self.on(total).saturating_mul(2)
    }

    /// The ballast on one.
    fn ballast_on(self, total: u64) -> u64 {
        self.ballast_bytes.min(total / FLOOR_PART)
    }
}

/// The room after a look: it is left at the floor, and is enough again only at some more. Free pages of the file are room
/// as well, while a little of the file system itself is free, for the WAL.
fn judge(before: Level, floor: u64, space: Space, inside: Inside) -> Room {
    let margin = floor / FLOOR_MARGIN_PART;
    let outside = space.outside(inside);
    let free = match outside >= margin {
        true => outside.saturating_add(inside.reusable),
        false => outside,
    };
    let needed = floor + margin;
    let level = match before {
        Level::Enough if free >= floor => Level::Enough,
        Level::Enough => Level::Low,
        short if free < needed => short,
        _ => Level::Enough,
    };
    Room {
        level,
        free,
        needed,
    }
}

/// Keeps the room: looks, tells, and gives the ballast up or puts it back. Belongs to the writer's thread.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    /// None until it is told; nothing is looked at before.
    floor: Option<Floor>,
    told: Arc<watch::Sender<Room>>,
    looked: Option<Instant>,
    /// Pages in the WAL at that time.
    wal_pages: i32,
    /// Bytes that were free in the file system then, but for what the WAL will make the file grow by.
    outside: u64,
    /// When SQLite last found no room.
    ran_out: Option<Instant>,
    /// When to try again to put the ballast back.
    ballast_at: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(directory: &Path, told: Arc<watch::Sender<Room>>) -> Self {
        Self {
            directory: directory.to_owned(),
            floor: None,
            told,
            looked: None,
            wal_pages: 0,
            outside: 0,
            ran_out: None,
            ballast_at: None,
        }
    }

    /// From now on this is to be kept free.
    pub(super) fn keep(&mut self, floor: Floor) {
        self.floor = Some(floor);
        self.ballast_at = Some(Instant::now());
        self.looked = None;
    }

    /// When to look next even if nothing is written.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.floor?;
        let looked = self.looked?;
        match self.told.borrow().level {
            Level::Enough => self.ballast_at,
            Level::Low | Level::Out => Some(looked + ROOM_SHORT_LOOK_EVERY),
        }
    }

    /// Whether it is time, now that something may have been written, and so many pages are in the WAL.
    pub(super) fn is_due(&self, wal_pages: i32) -> bool {
        let every = match self.told.borrow().level {
            Level::Enough => ROOM_LOOK_EVERY,
            Level::Low | Level::Out => ROOM_SHORT_LOOK_EVERY,
        };
        let now = Instant::now();
        self.floor.is_some()
            && (self.looked.is_none_or(|looked| now - looked >= every)
                || (wal_pages - self.wal_pages).abs() >= ROOM_LOOK_PAGES
                || self.look_at().is_some_and(|at| at <= now))
    }

    /// Whether there is too little.
    pub(super) fn is_short(&self) -> bool {
        self.told.borrow().level != Level::Enough
    }

    /// Whether so many bytes more, outside the file, leave enough.
    pub(super) fn can_spare(&self, bytes: u64) -> bool {
        self.floor.is_none() || self.outside >= self.told.borrow().needed.saturating_add(bytes)
    }

    /// Looks; what the file says is asked for when it matters.
    pub(super) fn look(&mut self, wal_pages: i32, inside: impl FnOnce() -> Inside) {
        self.looked = Some(Instant::now());
        self.wal_pages = wal_pages;
        // A file system that does not answer has worse to say than that it is full; the next write will tell.
        let (Some(floor), Ok(space)) = (self.floor, Space::of(&self.directory)) else {
            return;
        };
        let bytes = floor.on(space.total);
        let is_near = space.free < bytes.saturating_mul(2).saturating_add(WAL_BYTES_MAX);
        let inside = if is_near { inside() } else { Inside::default() };
        self.outside = space.outside(inside);
        let before = self.told.borrow().level;
        let mut now = judge(before, bytes, space, inside);
        if self.ran_out_within(ROOM_RAN_OUT_WAIT) {
            now.level = Level::Out;
        }
        self.tell(now);
        if now.level == Level::Enough && self.ballast_at.is_some_and(|at| at <= Instant::now()) {
            self.put_back(floor.ballast_on(space.total), space, bytes);
        }
    }

    /// SQLite found no room: whoever asks is told at once, and the ballast is given up; says whether there was one.
    pub(super) fn ran_out(&mut self) -> bool {
        let now = Instant::now();
        self.ran_out = Some(now);
        let given_up = fs::remove_file(self.directory.join(BALLAST_NAME)).is_ok();
        if given_up {
            self.ballast_at = Some(now + BALLAST_WAIT);
        }
        let before = *self.told.borrow();
        self.looked.get_or_insert(now);
        self.tell(Room {
            level: Level::Out,
            ..before
        });
        given_up
    }

    fn ran_out_within(&self, time: Duration) -> bool {
        self.ran_out.is_some_and(|at| at.elapsed() < time)
    }

    fn tell(&self, now: Room) {
        self.told.send_if_modified(|told| {
            let changed = told.level != now.level;
            *told = now;
            changed
        });
    }

    /// Puts the ballast back when that leaves enough, and not while SQLite still runs out of room every now and then.
    fn put_back(&mut self, bytes: u64, space: Space, floor: u64) {
        let path = self.directory.join(BALLAST_NAME);
        let found = fs::metadata(&path).ok();
        let held = found.as_ref().map_or(0, |found| found.blocks() * 512);
        let is_whole = found.map_or(0, |found| found.len()) == bytes && held >= bytes;
        let leaves = space.free.saturating_add(held).saturating_sub(bytes);
        let again = Some(Instant::now() + BALLAST_AGAIN);
        if bytes == 0 {
            drop(fs::remove_file(&path));
            self.ballast_at = None;
        } else if is_whole {
            self.ballast_at = None;
        } else if leaves < floor + floor / FLOOR_MARGIN_PART || self.ran_out_within(BALLAST_WAIT) {
            self.ballast_at = again;
        } else if allocate(&path, bytes).is_ok() {
            self.ballast_at = None;
        } else {
            drop(fs::remove_file(&path));
            self.ballast_at = again;
        }
    }
}

/// The first look, before there is anybody who keeps looking.
pub(super) fn first_look(directory: &Path, floor: Floor) -> Option<Room> {
    let space = Space::of(directory).ok()?;
    let inside = Inside::default();
    Some(judge(Level::Enough, floor.on(space.total), space, inside))
}

/// Gives the ballast up where there is hardly any room, before anything is opened: SQLite needs some pages to begin with.
pub(super) fn give_up_ballast(directory: &Path) -> bool {
    let is_full = Space::of(directory).is_ok_and(|space| space.free < space.total / FLOOR_PART);
    is_full && fs::remove_file(directory.join(BALLAST_NAME)).is_ok()
}

/// Makes a file whose bytes the file system has really set aside.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_through(&mut file, bytes),
        outcome => Ok(outcome?),
    }
}

/// Not zeros, which some file systems do not store.
fn write_through(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut dice = fastrand::Rng::with_seed(bytes);
    let mut piece = [0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(piece.len() as u64);
        dice.fill(&mut piece);
        file.write_all(&piece[..count as usize])?;
        left -= count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn level(before: Level, free_mib: u64, reusable_mib: u64) -> Level {
        let space = Space {
            free: free_mib * MIB,
            total: 16_384 * MIB,
        };
        let inside = Inside {
            reusable: reusable_mib * MIB,
            owed: 0,
        };
        judge(before, 64 * MIB, space, inside).level
    }

    #[test]
    fn what_the_file_will_still_grow_by_is_no_room() {
        let (free, total) = (70 * MIB, 16_384 * MIB);
        let level = |owed| {
            let inside = Inside { reusable: 0, owed };
            judge(Level::Enough, 64 * MIB, Space { free, total }, inside).level
        };
        assert_eq!(level(6 * MIB), Level::Enough);
        assert_eq!(level(7 * MIB), Level::Low);
    }

    #[test]
    fn it_is_low_below_the_floor_and_enough_again_only_at_some_more() {
        assert_eq!(level(Level::Enough, 64, 0), Level::Enough);
        assert_eq!(level(Level::Enough, 63, 0), Level::Low);
        assert_eq!(level(Level::Low, 71, 0), Level::Low);
        assert_eq!(level(Level::Low, 72, 0), Level::Enough);
        assert_eq!(level(Level::Out, 71, 0), Level::Out);
        assert_eq!(level(Level::Out, 72, 0), Level::Enough);
    }

    #[test]
    fn free_pages_of_the_file_are_room_as_long_as_the_wal_has_some_of_its_own() {
        assert_eq!(level(Level::Enough, 10, 60), Level::Enough);
        assert_eq!(level(Level::Enough, 7, 600), Level::Low);
        assert_eq!(level(Level::Low, 10, 60), Level::Low);
        assert_eq!(level(Level::Low, 10, 62), Level::Enough);
    }

    #[test]
    fn on_a_small_file_system_the_floor_and_the_ballast_are_a_part_of_it() {
        let floor = Floor {
            bytes: 64 * MIB,
            ballast_bytes: 8 * MIB,
        };
        assert_eq!(floor.on(16_384 * MIB), 64 * MIB);
        assert_eq!(floor.on(100 * MIB), 5 * MIB);
        assert_eq!(floor.ballast_on(100 * MIB), 5 * MIB);
    }

    #[test]
    fn the_ballast_is_really_allocated_however_it_is_made() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join(BALLAST_NAME);
        allocate(&path, MIB).expect("a ballast");
        let blocks = |path: &Path| fs::metadata(path).expect("a file").blocks() * 512;
        assert!(blocks(&path) >= MIB);
        let mut file = File::create(&path).expect("a file");
        write_through(&mut file, MIB).expect("a ballast");
        file.sync_all().expect("a synced file");
        assert!(blocks(&path) >= MIB);
    }

    #[test]
    fn the_ballast_goes_when_sqlite_finds_no_room_and_comes_back_later() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let told = Arc::new(watch::Sender::new(Room::default()));
        let mut keeper = Keeper::new(place.path(), Arc::clone(&told));
        let ballast = place.path().join(BALLAST_NAME);
        keeper.keep(Floor {
            bytes: 1,
            ballast_bytes: MIB,
        });
        assert!(keeper.is_due(0));
        keeper.look(0, Inside::default);
        assert!(ballast.exists());
        assert_eq!(keeper.look_at(), None, "an idle gateway is not woken up");
        keeper.ran_out();
        assert_eq!(told.borrow().level, Level::Out);
        assert!(!ballast.exists());
        let soon = keeper.look_at().expect("another look");
        assert!(soon <= Instant::now() + ROOM_SHORT_LOOK_EVERY);
        keeper.ran_out = keeper.ran_out.map(|at| at - ROOM_RAN_OUT_WAIT);
        keeper.look(0, Inside::default);
        assert_eq!(told.borrow().level, Level::Enough);
        assert!(!ballast.exists(), "it may still be as full as before");
        keeper.ran_out = keeper.ran_out.map(|at| at - BALLAST_WAIT);
        keeper.ballast_at = keeper.ballast_at.map(|at| at - BALLAST_WAIT);
        keeper.look(0, Inside::default);
        assert!(ballast.exists());
    }
}
