//! When the WAL is copied into the file, and by whom: in passes beside the commits, by the thread of `checkpoint`; and what
//! that leaves over by the writer, with all who append waiting, so it has to be little. Knows how many pages wait, and no
//! connection and no queues.

use std::time::Instant;

use super::WriteError;
use super::checkpoint::Checkpointer;
use crate::limits::{
    CHANGES_HELD_MAX, COPY_AGAIN_WAIT, WAL_PAGES_LEFT, WAL_PAGES_MAX, WAL_PAGES_QUIET,
    WAL_PAGES_SHORT_MAX, WAL_PASSES_MAX,
};

/// What the WAL asks of the writer first of all.
#[derive(Debug)]
pub(super) enum Due {
    /// To copy it here and now.
    Copy,
    /// To take note of what the disk said to the thread that copied it.
    Failed(WriteError),
}

/// How far the WAL is copied. Pages are counted from where it last started over, as SQLite tells after each commit.
#[derive(Debug, Default)]
pub(super) struct Copying {
    thread: Option<Checkpointer>,
    /// Pages in the WAL when it was last copied into the file, or that was last tried.
    copied_at: i32,
    /// How often the thread has copied since the WAL became large; none when it has started over since.
    passes: u32,
    /// Until when changes wait for the pass that is under way, once they do.
    held_until: Option<Instant>,
    /// After a failure, when the WAL is copied again.
    again_at: Option<Instant>,
}

impl Copying {
    /// From now on this thread copies; without one the writer does all of it.
    pub(super) fn beside(&mut self, thread: Checkpointer) {
        self.thread = Some(thread);
    }

    /// Whether the thread copies just now.
    pub(super) fn is_under_way(&self) -> bool {
        self.thread.as_ref().is_some_and(Checkpointer::is_busy)
    }

    /// Has the copying end sooner, since somebody waits for it.
    pub(super) fn hurry(&self) {
        if let Some(thread) = &self.thread {
            thread.hurry();
        }
    }

    /// What is due with so many pages in the WAL; on a disk that `is_short` of room, sooner. Has the thread copy where it
    /// is for the thread.
    pub(super) fn due(&mut self, pages: i32, is_short: bool) -> Option<Due> {
        let is_under_way = self.is_under_way();
        let idle = self.thread.as_ref().filter(|_| !is_under_way);
        if let Some(error) = idle.and_then(Checkpointer::failure) {
            self.again_at = Some(Instant::now() + COPY_AGAIN_WAIT);
            return Some(Due::Failed(error));
        }
        if pages < self.copied_at {
            // It has started over, since all of it was copied.
            self.copied_at = 0;
            self.passes = 0;
        }
        let is_due = self.is_due_here(pages, is_under_way, is_short);
        if is_due {
            self.copied_at = pages;
        }
        is_due.then_some(Due::Copy)
    }

    /// While commits go on the thread never copies all, but each pass leaves less, and the last of it is copied by the writer.
    /// What could not be copied, since somebody reads an older state, is not tried again before the WAL has grown.
    fn is_due_here(&mut self, pages: i32, is_under_way: bool, is_short: bool) -> bool {
        let more = pages - self.copied_at;
        match &self.thread {
            _ if is_short => more >= WAL_PAGES_SHORT_MAX,
            _ if self.is_bad() => false,
            None => more >= WAL_PAGES_MAX,
            Some(_) if is_under_way => more >= WAL_PAGES_MAX,
            Some(thread) if thread.has_just_copied() && self.passes > 0 && more > 0 => {
                let is_little = more <= WAL_PAGES_LEFT || self.passes >= WAL_PASSES_MAX;
                if !is_little {
                    self.begin(self.passes + 1, pages);
                }
                is_little
            }
            Some(_) if more >= WAL_PAGES_MAX => {
                self.begin(1, pages);
                false
            }
            Some(_) => false,
        }
    }

    /// Has the thread copy what is in the WAL by now.
    pub(super) fn begin(&mut self, pass: u32, pages: i32) {
        self.passes = pass;
        self.copied_at = pages;
        self.held_until = None;
        // One that has died leaves it to the writer.
        self.thread.take_if(|thread| !thread.ask());
    }

    /// Until when changes wait, if they do: in the last pass, so that it leaves little, since all appends would wait for the
    /// rest; and in any that falls behind.
    pub(super) fn holds_changes(&mut self, pages: i32) -> Option<Instant> {
        let more = pages - self.copied_at;
        let is_reason = self.passes >= WAL_PASSES_MAX || more >= WAL_PAGES_MAX / 2;
        if !is_reason || !self.is_under_way() {
            return None;
        }
        self.hurry();
        let now = Instant::now();
        let until = *self.held_until.get_or_insert(now + CHANGES_HELD_MAX);
        (now < until).then_some(until)
    }

    /// Whether there is enough in the WAL to be copied when there is nothing else to do.
    pub(super) fn is_worth_it_when_quiet(&self, pages: i32) -> bool {
        let is_free = self.thread.is_some() && !self.is_under_way();
        pages - self.copied_at >= WAL_PAGES_QUIET && is_free && !self.is_bad()
    }

    /// As if changes had waited for long enough.
    #[cfg(test)]
    pub(super) fn hold_no_longer(&mut self) {
        self.held_until = Some(Instant::now());
    }

    /// Whether the disk has refused what was copied, just now.
    fn is_bad(&self) -> bool {
        self.again_at.is_some_and(|at| Instant::now() < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_for_the_copying_that_falls_behind_but_not_for_ever() {
        let mut copying = Copying::default();
        copying.beside(Checkpointer::endless());
        assert!(copying.due(WAL_PAGES_MAX, false).is_none());
        assert!(copying.is_under_way());
        let behind = WAL_PAGES_MAX + WAL_PAGES_MAX / 2;
        assert_eq!(copying.holds_changes(behind - 1), None);
        assert!(copying.holds_changes(behind).is_some());
        copying.hold_no_longer();
        assert_eq!(copying.holds_changes(behind), None);
    }

    #[test]
    fn changes_wait_for_the_last_pass_however_little_there_is() {
        let mut copying = Copying::default();
        copying.beside(Checkpointer::endless());
        copying.begin(WAL_PASSES_MAX, 1);
        assert!(copying.holds_changes(1).is_some());
    }

    #[test]
    fn without_a_thread_the_writer_copies_as_often_as_the_wal_has_become_large() {
        let mut copying = Copying::default();
        let due: Vec<_> = (1..=3 * WAL_PAGES_MAX)
            .filter(|pages| copying.due(*pages, false).is_some())
            .collect();
        assert_eq!(due, [1, 2, 3].map(|times| times * WAL_PAGES_MAX));
        // It has started over.
        assert!(copying.due(WAL_PAGES_MAX - 1, false).is_none());
        assert!(copying.due(WAL_PAGES_MAX, false).is_some());
    }
}
