//! A long listing: how fast its objects are stored and what each costs, and what the intake's answers have of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use belvo_gateway::standin::StandIn;
use belvo_gateway::standin::sender::Sender;

use crate::shared::belvo::{self, File};
use crate::shared::place::Place;
use crate::shared::program::{BARE, PATH, Process, Site, WITHOUT_LIMIT};
use crate::shared::report::{markdown, median, mib, ms};
use crate::shared::steady::{self, Answered};
use crate::shared::usage::Usage;

/// Webhooks a second, beside the listing and without it.
const RATE: u32 = 100;
/// How long they come alone.
const QUIET: Duration = Duration::from_secs(10);

/// How fast a listing is asked for.
pub(crate) struct Pace {
    name: &'static str,
    /// Of the configuration.
    lines: &'static str,
    /// What this part of the objects has to do with, so that both take about as long.
    part: usize,
}

/// As fast as it goes, and as a box is configured.
pub(crate) const PACES: [Pace; 2] = [
    Pace {
        name: "as fast as it goes",
        lines: WITHOUT_LIMIT,
        part: 1,
    },
    Pace {
        name: "with the budget that a box has, two pages a second",
        lines: "requests-per-second = 2\nburst = 1\n",
        part: 5,
    },
];

/// What was found.
struct Stored {
    took: Duration,
    used: Usage,
}

/// One round: a listing alone, webhooks alone, both, and both with webhooks that another gateway takes.
struct Round {
    alone: Stored,
    quiet: Answered,
    beside: (Stored, Answered),
    /// What the machine alone does to an answer while it has so much else to do.
    elsewhere: (Stored, Answered),
    peak_kib: u64,
}

/// Measures it in so many rounds with so many objects each; as tables.
pub(crate) fn measure(
    place: &Place,
    pace: &Pace,
    rounds: u64,
    objects: usize,
) -> anyhow::Result<String> {
    let objects = objects / pace.part;
    let belvo = belvo::start()?;
    let sync = place.sync_time()?;
    let mut measured = Vec::new();
    for number in 0..rounds {
        eprintln!("listing: round {} of {rounds} ...", number + 1);
        measured.push(round(place, pace, &belvo, (number, objects))?);
    }
    Ok(format!(
        "A listing of {objects} objects, 1000 a page, {}\n\n{}\n{}\n{}\n",
        pace.name,
        of_objects(&measured, objects),
        of_answers(&measured),
        compared(&measured, sync)
    ))
}

/// Each round begins with an empty file.
fn round(
    place: &Place,
    pace: &Pace,
    belvo: &StandIn,
    (number, objects): (u64, usize),
) -> anyhow::Result<Round> {
    let site = Site::new(place)?;
    site.configure(&format!(
        "{BARE}{}",
        site.api(belvo.base_url(), pace.lines)?
    ))?;
    let process = site.serve_counted(Duration::ZERO)?;
    let file = File::open(&site.state())?;
    // What only the bench does, with all those objects, is not done while the answers are timed.
    let both = |announced: Announced, to| {
        process.settled()?;
        let is_over = AtomicBool::new(false);
        let both = thread::scope(|scope| {
            let answered = scope.spawn(|| {
                steady::send(to, RATE, steady::of_payments, |_| {
                    is_over.load(Ordering::Relaxed)
                })
            });
            let stored = announced.fetched(&site, &process, &file);
            is_over.store(true, Ordering::Relaxed);
            let answered = answered.join().ok().context("the sender panicked")??;
            anyhow::Ok((stored?, answered))
        })?;
        announced.end(belvo, &site, &file)?;
        anyhow::Ok(both)
    };
    let announced = put(belvo, 3 * number, objects);
    let alone = announced.fetched(&site, &process, &file)?;
    announced.end(belvo, &site, &file)?;
    let peak_kib = process.resident_kib()?.0;
    let quiet = steady::send(site.address, RATE, steady::of_payments, |after| {
        after >= QUIET
    })?;
    let beside = both(put(belvo, 3 * number + 1, objects), site.address)?;
    let other = Site::new(place)?;
    let _other = other.serve()?;
    let elsewhere = both(put(belvo, 3 * number + 2, objects), other.address)?;
    Ok(Round {
        alone,
        quiet,
        beside,
        elsewhere,
        peak_kib,
    })
}

/// A link with objects at the stand-in.
struct Announced {
    link: String,
    objects: usize,
}

fn put(belvo: &StandIn, seed: u64, objects: usize) -> Announced {
    let link = belvo::put_link(belvo, seed, objects);
    Announced { link, objects }
}

impl Announced {
    /// Announces them, until all are fetched.
    fn fetched(&self, site: &Site<'_>, process: &Process, file: &File) -> anyhow::Result<Stored> {
        let before = process.used()?;
        let begun = Instant::now();
        let webhook = belvo::webhook(&self.link);
        let reply = Sender::plain(site.address, PATH).send(webhook.as_bytes())?;
        ensure!(reply.status == 200, "{}", reply.head);
        file.wait_for_all(true)?;
        Ok(Stored {
            took: begun.elapsed(),
            used: process.used()? - before,
        })
    }

    /// Looks whether all of them are kept, and takes them away.
    fn end(self, belvo: &StandIn, site: &Site<'_>, file: &File) -> anyhow::Result<()> {
        let found = file.objects(&self.link)?;
        ensure!(
            found == self.objects as i64,
            "{found} objects are kept: {}",
            site.log()
        );
        belvo::empty(belvo, &self.link);
        Ok(())
    }
}

fn of_objects(rounds: &[Round], objects: usize) -> String {
    let line = |name: &str, stored: &dyn Fn(&Round) -> &Stored, peak: String| {
        let each = |figure: &dyn Fn(&Stored) -> f64| {
            median(rounds.iter().map(|round| figure(stored(round))).collect())
        };
        vec![
            name.to_owned(),
            format!("{:.1}", each(&|one| one.took.as_secs_f64())),
            format!(
                "{:.0}",
                objects as f64 / each(&|one| one.took.as_secs_f64())
            ),
            format!(
                "{:.0}",
                each(&|one| one.used.cpu.as_secs_f64()) * 1e6 / objects as f64
            ),
            format!(
                "{:.2}",
                each(&|one| one.used.device_bytes as f64) / 1024.0 / objects as f64
            ),
            format!("{:.0}", each(&|one| one.used.syncs as f64)),
            peak,
        ]
    };
    let peak = median(rounds.iter().map(|round| round.peak_kib as f64).collect());
    let head = [
        "listing",
        "s",
        "objects/s",
        "CPU µs an object",
        "device KiB an object",
        "syncs",
        "peak MiB",
    ];
    let webhooks = format!("beside {RATE} webhooks a second");
    markdown(
        &head,
        &[
            line("alone", &|round| &round.alone, mib(peak as u64)),
            line(&webhooks, &|round| &round.beside.0, String::new()),
            line(
                "the same, which another gateway takes",
                &|round| &round.elsewhere.0,
                String::new(),
            ),
        ],
    )
}

fn of_answers(rounds: &[Round]) -> String {
    let line = |name: &str, answered: &dyn Fn(&Round) -> &Answered| {
        let within = |part: f64| {
            let times = rounds.iter().map(|round| answered(round).within(part));
            ms(
                Duration::from_secs_f64(median(times.map(|time| time.as_secs_f64()).collect())),
                2,
            )
        };
        let count: usize = rounds.iter().map(|round| answered(round).count()).sum();
        vec![
            name.to_owned(),
            count.to_string(),
            within(0.5),
            within(0.99),
            within(1.0),
        ]
    };
    let head = ["webhooks", "answered 200", "p50 ms", "p99 ms", "worst ms"];
    markdown(
        &head,
        &[
            line("alone", &|round| &round.quiet),
            line("beside the listing", &|round| &round.beside.1),
            line("the same, by another gateway", &|round| &round.elsewhere.1),
        ],
    )
}

fn compared(rounds: &[Round], sync: Duration) -> String {
    let of_allowed = |answered: &dyn Fn(&Round) -> &Answered| {
        let of_allowed = rounds.iter().map(|round| {
            let allowed = round.quiet.within(0.99) * 2 + sync;
            answered(round).within(0.99).as_secs_f64() / allowed.as_secs_f64()
        });
        median(of_allowed.collect())
    };
    format!(
        "- one sync: {} ms; p99 beside the listing: {:.2} of twice the quiet one and one sync (goal at most 1), and {:.2} where another gateway answers",
        ms(sync, 2),
        of_allowed(&|round| &round.beside.1),
        of_allowed(&|round| &round.elsewhere.1)
    )
}
