//! What the demo shows, one function a scene: each prints what happens and checks what it claims. The order of the scenes
//! is in `demo`; how things are started and awaited is in `stage`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::fetches::Fetches;
use super::file::StateFile;
use super::findings::{grouped, ms};
use super::gateway::{Gateway, Kept, Log};
use super::stage::{BELVO, STRANGER, Stage, explain};
use crate::standin::payloads::{Resource, historical_update, new_available};
use crate::standin::sender::{Reply, Sender, Step, Unanswered};
use crate::standin::{Fault, Hold, Outcome, When};

/// The resource whose first request fails, so that a retry is seen.
const UNLUCKY: Resource = Resource::Bills;

/// The page during which the gateway is killed.
const FATAL_PAGE: usize = 3;
const FATAL_PAGE_WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Webhooks for the seven resources come in over TLS.
pub(super) fn webhooks_arrive(stage: &mut Stage) -> anyhow::Result<()> {
    println!(
        "\n2. Webhooks arrive over TLS from {BELVO}; times count from the request's first byte"
    );
    println!(
        "   {:<41} {:>5} {:>4}  {:>9} {:>9}  in the file when the 200 came",
        "webhook", "bytes", "row", "on disk", "200 out"
    );
    stage.standin.fail(
        When::path(UNLUCKY.path()),
        Fault::error(503, "service_unavailable"),
    );
    let (sender, file) = (stage.belvo()?, stage.file()?);
    let mut log = Log::open(&stage.directory)?;
    let link = &stage.links[0];
    let (mut slowest, mut in_order) = (Duration::ZERO, true);
    for (resource, count) in &link.holds {
        let body = webhook(*resource, &link.id, *count);
        deliver(&sender, &body)?;
        let row = file.journal_row(&body)?;
        let kept = row.map(|row| log.wait_kept(row)).transpose()?;
        println!("{}", delivered(&body, row, kept)?);
        in_order &= kept.is_some_and(|kept| kept.on_disk <= kept.answered);
        slowest = slowest.max(kept.map_or(Duration::ZERO, |kept| kept.answered));
        stage.sent.push(body);
    }
    let count = link.holds.len();
    stage.findings.check(
        in_order,
        format!(
            "{count} webhooks were on disk before their 200, which came within {}",
            ms(slowest)
        ),
    );
    Ok(())
}

fn delivered(body: &str, row: Option<i64>, kept: Option<Kept>) -> anyhow::Result<String> {
    let (title, bytes) = (title(body)?, body.len());
    let (Some(row), Some(kept)) = (row, kept) else {
        return Ok(format!("   {title:<41} {bytes:>5}    -  not in the file"));
    };
    let (on_disk, answered) = (ms(kept.on_disk), ms(kept.answered));
    Ok(format!(
        "   {title:<41} {bytes:>5} {row:>4}  {on_disk:>9} {answered:>9}  yes"
    ))
}

/// Both kinds of webhook that announce data, and both of Belvo's forms.
fn webhook(resource: Resource, link: &str, count: usize) -> String {
    match resource {
        Resource::Bills | Resource::Balances => new_available(resource, link, count),
        _ => historical_update(resource, link, count),
    }
}

fn deliver(sender: &Sender, body: &str) -> anyhow::Result<()> {
    let reply = sender.send(body.as_bytes()).map_err(explain)?;
    if reply.status != 200 {
        bail!(
            "a webhook from {BELVO} was answered {} instead of 200; see gateway.log",
            reply.status
        );
    }
    Ok(())
}

fn title(body: &str) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Title<'a> {
        webhook_type: &'a str,
        webhook_code: &'a str,
    }
    let title: Title<'_> =
        serde_json::from_str(body).context("a webhook of the stand-in is not JSON")?;
    Ok(format!("{} {}", title.webhook_type, title.webhook_code))
}

/// The gateway fetches what they announced, one of them at the second try.
pub(super) fn fetches_follow(stage: &mut Stage) -> anyhow::Result<()> {
    println!(
        "\n3. What they announce is fetched; Belvo is unwell once, so the gateway waits and asks again"
    );
    Fetches::heading();
    let (link, wishes) = (stage.links[0].id.clone(), stage.links[0].holds.len());
    stage.wait_fetched(&link, wishes)?;
    let requests = stage.standin.requests();
    let unlucky = requests
        .iter()
        .filter(|request| request.path == UNLUCKY.path());
    let statuses: Vec<_> = unlucky
        .filter_map(|request| match request.outcome {
            Outcome::Answered { status, .. } => Some(status),
            _ => None,
        })
        .collect();
    let retried = statuses.first() == Some(&503) && statuses.last() == Some(&200);
    stage
        .findings
        .check(retried, "a temporary error was retried until it was over");
    Ok(())
}

/// A stranger and a wrong `Authorization` are turned away.
pub(super) fn others_stay_outside(stage: &mut Stage) -> anyhow::Result<()> {
    println!("\n4. Who is not Belvo stays outside");
    let bodies = [0, 1].map(|_| new_available(Resource::Accounts, &stage.links[0].id, 1));
    let stranger = stage.sender(STRANGER, &stage.secrets.authorization)?;
    let stranger = stranger.send(bodies[0].as_bytes());
    let wrong = stage
        .sender(BELVO, "Bearer of a wrong word")?
        .send(bodies[1].as_bytes());
    let closed = matches!(&stranger, Err(error) if error.step == Step::Handshake);
    let unauthorized = matches!(&wrong, Ok(reply) if reply.status == 401);
    println!("   {STRANGER:<11} right Authorization   {}", fate(stranger));
    println!("   {BELVO:<11} wrong Authorization   {}", fate(wrong));
    let file = stage.file()?;
    let [of_stranger, of_wrong] = [file.journal_row(&bodies[0])?, file.journal_row(&bodies[1])?];
    let kept = [of_stranger, of_wrong].iter().flatten().count();
    println!("   in the journal: {kept} of them");
    stage.refused.extend(bodies);
    let claim = "a stranger's connection was closed before TLS and left nothing";
    stage.findings.check(closed && of_stranger.is_none(), claim);
    let claim = "a wrong Authorization was answered 401 and left nothing";
    stage
        .findings
        .check(unauthorized && of_wrong.is_none(), claim);
    Ok(())
}

fn fate(sent: Result<Reply, Unanswered>) -> String {
    match sent {
        Ok(reply) => format!("answered {}", reply.status),
        Err(error) if error.step == Step::Handshake => {
            format!("closed before TLS ({})", error.source)
        }
        Err(error) => error.to_string(),
    }
}

/// Kill -9 while a page is on its way, and what the next start makes of it.
pub(super) fn killed_and_complete(mut stage: Stage) -> anyhow::Result<Stage> {
    let (link, total) = (stage.links[1].id.clone(), stage.links[1].holds[0].1);
    println!(
        "\n5. kill -9 in the middle of a fetch of {} transactions",
        grouped(total)
    );
    Fetches::heading();
    let fatal = When::path(Resource::Transactions.path())
        .link(&link)
        .page(FATAL_PAGE);
    let hold = stage.standin.hold(fatal);
    let body = historical_update(Resource::Transactions, &link, total);
    deliver(&stage.belvo()?, &body)?;
    stage.sent.push(body);
    wait_held(&mut stage, &hold)?;
    let before = stage.stored(Resource::Transactions, &link)?;
    let open = stage.file()?.wishes(&link)?.waiting;
    let mut stage = kill_and_restart(stage, before)?;
    hold.release();
    stage.wait_fetched(&link, 1)?;
    let after = stage.stored(Resource::Transactions, &link)?;
    let (had, has, all) = (grouped(before), grouped(after), grouped(total));
    println!("   {has} of {all} transactions are in the file");
    let held = open == 1 && before < total && after == total;
    let claim =
        format!("killed with -9 at {had} of {all} transactions, it had {has} after the next start");
    stage.findings.check(held, claim);
    Ok(stage)
}

fn wait_held(stage: &mut Stage, hold: &Hold) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !hold.wait_reached(Duration::ZERO) {
        stage.fetches.print_for(LOOK_EVERY);
        stage.goes_on()?;
        if begun.elapsed() > FATAL_PAGE_WAIT {
            let log = stage.directory.shown("gateway.log");
            bail!("the gateway did not ask for page {FATAL_PAGE} of the transactions; see {log}");
        }
    }
    stage.fetches.print_for(LOOK_EVERY);
    Ok(())
}

fn kill_and_restart(stage: Stage, before: usize) -> anyhow::Result<Stage> {
    let status = stage.gateway.kill()?;
    println!("   {} are in the file: killed ({status})", grouped(before));
    stage.fetches.print_for(LOOK_EVERY);
    let gateway = Gateway::start(&stage.directory)?;
    println!("   started again, ready after {}", ms(gateway.ready_after));
    Ok(Stage { gateway, ..stage })
}

/// The file against what the stand-in holds and what was sent.
pub(super) fn the_file_is_right(stage: &mut Stage) -> anyhow::Result<()> {
    println!("\n6. What is in the file");
    let file = stage.file()?;
    objects_are_right(stage, &file)?;
    let (sent, refused) = (stage.sent.len(), stage.refused.len());
    stage.findings.check(
        file.journal()? == stage.sent,
        format!("the journal holds the {sent} webhooks answered 200, in order, and none of the {refused} refused"),
    );
    let wishes = stage
        .links
        .iter()
        .map(|link| file.wishes(&link.id))
        .collect::<Result<Vec<_>, _>>()?;
    let all: usize = wishes.iter().map(|wishes| wishes.all).sum();
    let none_waits = wishes.iter().all(|wishes| wishes.waiting == 0);
    stage.findings.check(
        none_waits,
        format!("all {all} things that were announced are fetched"),
    );
    Ok(())
}

fn objects_are_right(stage: &mut Stage, file: &StateFile) -> anyhow::Result<()> {
    println!(
        "   {:<26} {:>9} {:>11}  byte for byte",
        "resource", "at Belvo", "in the file"
    );
    let (mut all, mut all_same) = (0, true);
    for resource in Resource::BANKING {
        let (mut at_belvo, mut in_file, mut same) = (0, 0, true);
        for link in &stage.links {
            let theirs = by_id(stage.standin.objects(resource.path(), &link.id))?;
            let ours = file.objects(resource.name(), &link.id)?;
            at_belvo += theirs.len();
            in_file += ours.len();
            same &= ours == theirs;
        }
        let (name, word) = (resource.name(), if same { "yes" } else { "NO" });
        println!(
            "   {name:<26} {:>9} {:>11}  {word}",
            grouped(at_belvo),
            grouped(in_file)
        );
        all += in_file;
        all_same &= same;
    }
    stage.findings.check(
        all_same,
        format!(
            "{} objects are in the file once, byte for byte",
            grouped(all)
        ),
    );
    Ok(())
}

fn by_id(objects: Vec<String>) -> anyhow::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Head {
        id: String,
    }
    let pair = |text: String| serde_json::from_str::<Head>(&text).map(|head| (head.id, text));
    objects
        .into_iter()
        .map(pair)
        .collect::<Result<_, _>>()
        .context("an object of the stand-in has no id")
}
