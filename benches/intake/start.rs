//! The program by itself, without the library from `faults.c`: how long from its start to its first 200, what it holds
//! in memory when nothing comes, how large it is. Knows the configuration, with TLS, `Authorization` and API keys as on
//! a box, and without.

use std::fs;
use std::thread;
use std::time::Duration;

use belvo_gateway::standin::sender::Sender;
use belvo_gateway::standin::write_secret;

use crate::shared::load::{self, Load};
use crate::shared::place::Place;
use crate::shared::program::{BARE, PATH, Site, certificate, tls_section};
use crate::shared::report::{markdown, median, mib};
use crate::shared::usage;

/// Starts with each configuration.
const STARTS: usize = 9;
/// After the first 200, before the memory is looked at: what starting needed is over.
const REST: Duration = Duration::from_millis(500);
/// What is in the file before the measured starts.
const FILLED_FOR: Duration = Duration::from_millis(500);
const AUTHORIZATION: &str = "Bearer 3c2b0e5f";
/// Nothing answers there, so what the file asks for is tried and fails, as while Belvo is away.
const NOBODY: &str = "https://127.0.0.1:9";
/// Until what a start brings with it is over, the first look of retention among it.
const STARTED: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug)]
pub(crate) struct Started {
    /// Bytes of the program.
    pub(crate) program_bytes: u64,
    /// Rows in the file at each start.
    rows: u64,
    /// With TLS, `Authorization` and API keys.
    pub(crate) complete: Start,
    /// With none of them.
    bare: Start,
}

/// With one configuration, the medians of all starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) first_200: Duration,
    /// The most that was resident until then, and what is resident at rest.
    peak_kib: u64,
    pub(crate) rest_kib: u64,
}

/// Measures both configurations on one file.
pub(crate) fn measure(place: &Place) -> anyhow::Result<Started> {
    let site = Site::new(place)?;
    let rows = fill(&site)?;
    let sender = configure_all(&site)?;
    let complete = starts(&site, &sender)?;
    site.configure(BARE)?;
    Ok(Started {
        program_bytes: fs::metadata(&place.program)?.len(),
        rows,
        complete,
        bare: starts(&site, &Sender::plain(site.address, PATH))?,
    })
}

/// As a table.
pub(crate) fn table(started: &Started) -> String {
    let line = |what: String, start: &Start| {
        vec![
            what,
            format!("{:.1}", start.first_200.as_secs_f64() * 1e3),
            mib(start.rest_kib),
            mib(start.peak_kib),
        ]
    };
    let rows = started.rows;
    let head = [
        "configured",
        "start to first 200, ms",
        "at rest MiB",
        "peak MiB",
    ];
    markdown(
        &head,
        &[
            line(
                format!("TLS, Authorization, API keys; {rows} rows"),
                &started.complete,
            ),
            line(format!("none of them; {rows} rows"), &started.bare),
        ],
    )
}

/// TLS, `Authorization` and API keys, as on a box; the sender has what it needs for them.
fn configure_all(site: &Site<'_>) -> anyhow::Result<Sender> {
    let (identity, ca_file) = certificate(site.path())?;
    let authorization = site.path().join("authorization");
    write_secret(&authorization, AUTHORIZATION)?;
    site.configure(&format!(
        "authorization-file = {authorization:?}\n{}{}",
        tls_section(&identity),
        site.api(NOBODY, "")?
    ))?;
    Ok(Sender::tls(site.address, PATH, &ca_file)?.authorization(AUTHORIZATION))
}

/// Fills the file and says with how many rows.
fn fill(site: &Site<'_>) -> anyhow::Result<u64> {
    let _process = site.serve()?;
    let filled = load::send(
        (site.address, None),
        Load::Kept(8),
        Duration::ZERO,
        FILLED_FOR,
    )?;
    // Planned, too, so that there is nothing to catch up with.
    thread::sleep(REST);
    Ok(filled.all)
}

fn starts(site: &Site<'_>, sender: &Sender) -> anyhow::Result<Start> {
    let (mut first_200, mut peak, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (process, after) = site.first_200(sender)?;
        first_200.push(after.as_secs_f64());
        thread::sleep(REST);
        let (most, now) = process.resident_kib()?;
        peak.push(most as f64);
        rest.push(now as f64);
    }
    Ok(Start {
        first_200: Duration::from_secs_f64(median(first_200)),
        peak_kib: median(peak) as u64,
        rest_kib: median(rest) as u64,
    })
}

/// How often each thread is woken in this time when nothing comes, configured as on a box, without a watchdog, and what is
/// resident after it.
pub(crate) fn idle(place: &Place, time: Duration) -> anyhow::Result<String> {
    let site = Site::new(place)?;
    let sender = configure_all(&site)?;
    let (process, _) = site.first_200(&sender)?;
    thread::sleep(STARTED);
    let before = usage::woken(process.id())?;
    thread::sleep(time);
    let lines: Vec<Vec<String>> = usage::woken(process.id())?
        .into_iter()
        .map(|(number, name, times)| {
            let earlier = before.iter().find(|(earlier, ..)| *earlier == number);
            let times = times - earlier.map_or(0, |(.., times)| *times);
            vec![name, times.to_string()]
        })
        .collect();
    let (_, resident) = process.resident_kib()?;
    Ok(format!(
        "{}\nResident after it: {} MiB (goal at most 7).",
        markdown(&["thread", "woken"], &lines),
        mib(resident)
    ))
}
