//! The whole life of a lone webhook: all that one causes which comes while nothing else does, from the journal to the
//! checkpoint, when its fetch is one page and finds nothing changed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use belvo_gateway::standin::StandIn;
use belvo_gateway::standin::sender::Sender;

use crate::shared::belvo::{self, File};
use crate::shared::place::Place;
use crate::shared::program::{BARE, PATH, Site, WITHOUT_LIMIT};
use crate::shared::report::markdown;
use crate::shared::usage::Usage;

/// So many that none is fetched again at once, which would be put off.
const LINKS: usize = 100;
/// What each has: a page.
const OBJECTS: usize = 100;

/// More lives than any WAL has room for.
const LIVES_MAX: u32 = 10_000;

/// Measures it without API keys and with them, over so many checkpoints; as a table.
pub(crate) fn measure(place: &Place, checkpoints: u32) -> anyhow::Result<String> {
    let belvo = belvo::start()?;
    let links: Vec<String> = (0..LINKS as u64)
        .map(|seed| belvo::put_link(&belvo, seed, OBJECTS))
        .collect();
    let mut lines = Vec::new();
    for (name, is_fetched) in [
        ("kept and planned, without API keys", false),
        ("fetched as well, nothing changed", true),
    ] {
        eprintln!("lone: {name} ...");
        let (webhooks, used) = lives(place, &belvo, &links, is_fetched, checkpoints)?;
        let each = |number: u64| number as f64 / f64::from(webhooks);
        lines.push(vec![
            name.to_owned(),
            webhooks.to_string(),
            format!("{:.2}", each(used.syncs)),
            format!("{:.1}", each(used.file_bytes) / 1024.0),
            format!("{:.1}", each(used.device_bytes) / 1024.0),
            format!("{:.2}", used.cpu.as_secs_f64() * 1e3 / f64::from(webhooks)),
        ]);
    }
    let head = [
        "a lone webhook",
        "webhooks",
        "syncs",
        "written KiB",
        "device KiB",
        "CPU ms",
    ];
    Ok(markdown(&head, &lines))
}

/// Lives, one after the other, from one beginning of the WAL to another, so that each bears its share of copying it; how many
/// there were, and what they used.
fn lives(
    place: &Place,
    belvo: &StandIn,
    links: &[String],
    is_fetched: bool,
    checkpoints: u32,
) -> anyhow::Result<(u32, Usage)> {
    let site = Site::new(place)?;
    if is_fetched {
        site.configure(&format!(
            "{BARE}{}",
            site.api(belvo.base_url(), WITHOUT_LIMIT)?
        ))?;
    }
    let process = site.serve_counted(Duration::ZERO)?;
    let file = File::open(&site.state())?;
    let sender = Sender::plain(site.address, PATH);
    let send = |link: &str| -> anyhow::Result<()> {
        let reply = sender.send(belvo::webhook(link).as_bytes())?;
        ensure!(reply.status == 200, "{}", reply.head);
        Ok(())
    };
    // What is there already is what changes nothing.
    for link in links {
        send(link)?;
    }
    file.wait_for_all(is_fetched)?;
    let mut links = links.iter().cycle();
    let mut until_copied = || -> anyhow::Result<(u32, Usage)> {
        let before = run_of_wal(&site)?;
        for webhooks in 1..LIVES_MAX {
            send(links.next().context("links")?)?;
            file.wait_for_all(is_fetched)?;
            if run_of_wal(&site)? != before {
                return Ok((webhooks, process.settled()?));
            }
        }
        bail!("the WAL is never copied: {}", site.log())
    };
    let (_, before) = until_copied()?;
    belvo.forget_requests();
    let (mut webhooks, mut after) = (0, before);
    for _ in 0..checkpoints {
        let (more, used) = until_copied()?;
        webhooks += more;
        after = used;
    }
    ensure!(
        !is_fetched || !belvo.requests().is_empty(),
        "nothing was fetched: {}",
        site.log()
    );
    Ok((webhooks, after - before))
}

/// How often the WAL has started over, which it does when all of it was copied into the file
/// (<https://sqlite.org/fileformat2.html>, "The Write-Ahead Log": the checkpoint sequence number).
fn run_of_wal(site: &Site<'_>) -> anyhow::Result<[u8; 4]> {
    let mut number = [0; 4];
    fs::File::open(site.state().join("gateway.db-wal"))?.read_exact_at(&mut number, 12)?;
    Ok(number)
}
