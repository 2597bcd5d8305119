//! How those whose work went into one commit learn of it. Each waits in a task of the runtime that appends; told one by one
//! from the writer's thread, each would be a call of the system that wakes the runtime, and a good part of what a commit of
//! many costs. So a task of that runtime is told once, and tells the others.

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::WriteError;
use super::connection::Ended;
use super::writer::Job;

/// The work of one commit, and how it went.
struct Done {
    jobs: Vec<Box<dyn Job>>,
    outcome: Result<Ended, WriteError>,
}

impl Done {
    fn tell(self) {
        for job in self.jobs {
            job.finish(&self.outcome);
        }
    }
}

/// The writer's end.
pub(super) struct Answers(Option<UnboundedSender<Done>>);

impl Answers {
    /// By a task of this runtime, if it is called in one.
    pub(super) fn here() -> Self {
        let Ok(runtime) = Handle::try_current() else {
            return Self::directly();
        };
        // It holds no more than what was queued for the writer, whose length is bounded.
        let (to, mut from) = mpsc::unbounded_channel::<Done>();
        runtime.spawn(async move {
            while let Some(done) = from.recv().await {
                done.tell();
            }
        });
        Self(Some(to))
    }

    /// Each from the writer's thread.
    pub(super) fn directly() -> Self {
        Self(None)
    }

    /// Tells how the commit went, one alone at once.
    pub(super) fn tell(&self, jobs: Vec<Box<dyn Job>>, outcome: Result<Ended, WriteError>) {
        let done = Done { jobs, outcome };
        match &self.0 {
            // Where the runtime has ended nobody waits.
            Some(to) if done.jobs.len() > 1 => drop(to.send(done)),
            _ => done.tell(),
        }
    }
}
