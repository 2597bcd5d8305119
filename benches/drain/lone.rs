//! The whole life of a lone webhook: all that one causes which comes while nothing else does, from the journal to the
//! checkpoint, when its fetch is one page and finds nothing changed.

use std::time::Duration;

use anyhow::ensure;
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

/// Measures it without API keys and with them, over so many webhooks; as a table.
pub(crate) fn measure(place: &Place, webhooks: usize) -> anyhow::Result<String> {
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
        let used = lives(place, &belvo, &links, is_fetched, webhooks)?;
        let each = |number: u64| number as f64 / webhooks as f64;
        lines.push(vec![
            name.to_owned(),
            webhooks.to_string(),
            format!("{:.2}", each(used.syncs)),
            format!("{:.1}", each(used.file_bytes) / 1024.0),
            format!("{:.1}", each(used.device_bytes) / 1024.0),
            format!("{:.2}", used.cpu.as_secs_f64() * 1e3 / webhooks as f64),
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

/// So many lives, one after the other, over several checkpoints, so that each bears its share of them.
fn lives(
    place: &Place,
    belvo: &StandIn,
    links: &[String],
    is_fetched: bool,
    webhooks: usize,
) -> anyhow::Result<Usage> {
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
    let before = process.settled()?;
    belvo.forget_requests();
    for link in links.iter().cycle().take(webhooks) {
        send(link)?;
        file.wait_for_all(is_fetched)?;
    }
    let used = process.settled()? - before;
    let requests = belvo.requests().len();
    ensure!(
        !is_fetched || requests >= webhooks.min(LINKS),
        "only {requests} requests: {}",
        site.log()
    );
    Ok(used)
}
