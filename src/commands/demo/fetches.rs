//! The gateway's fetches as the stand-in sees them, one line each while they happen. It knows how a line looks and not
//! why a request was made.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::standin::{Observer, Outcome, Request};

/// Requests on their way to the screen.
#[derive(Debug)]
pub(super) struct Fetches {
    seen: Receiver<Request>,
    begun: Instant,
}

impl Fetches {
    /// The stand-in's observer and the side that prints; lines show the time since `begun`.
    pub(super) fn new(begun: Instant) -> (Observer, Self) {
        let (sender, seen) = mpsc::channel();
        // The demo may have ended before the stand-in: then nobody looks any more.
        let observer = move |request: &Request| drop(sender.send(request.clone()));
        (Box::new(observer), Self { seen, begun })
    }

    pub(super) fn heading() {
        println!("   {:>9}  {:<36} {:>4}  answer", "at", "request", "page");
    }

    /// Prints what comes within `time`.
    pub(super) fn print_for(&self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(request) = self
            .seen
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            println!(
                "{}",
                line(&request, request.came.duration_since(self.begun))
            );
        }
    }
}

fn line(request: &Request, at: Duration) -> String {
    let answer = match request.outcome {
        Outcome::Answered {
            status: 200,
            objects,
            total,
        } => format!("200  {objects} of {total} objects"),
        Outcome::Answered { status: 503, .. } => {
            "503  a temporary error, to be tried again".to_owned()
        }
        Outcome::Answered { status, .. } => status.to_string(),
        Outcome::Held => "...  kept waiting by the stand-in".to_owned(),
        Outcome::Abandoned => "---  the gateway is gone".to_owned(),
        Outcome::Closed => "---  closed without an answer".to_owned(),
        Outcome::Waiting => "...".to_owned(),
    };
    let asked = format!("{} {}", request.method, request.path);
    format!(
        "   {:>7.3} s  {asked:<36} {:>4}  {answer}",
        at.as_secs_f64(),
        request.page
    )
}
