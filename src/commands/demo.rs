//! `demo`: a gateway and a stand-in for Belvo on loopback, with real HTTP, TLS and a real file. Shows what happens and
//! checks every claim it prints; the gateway is this program's own `serve`, which does not know that it is watched.

mod directory;
mod fetches;
mod file;
mod findings;
mod gateway;
mod interrupt;
mod scenes;
mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::Demo;
use crate::standin::payloads::{Resource, new_available};
use directory::{Directory, HOOK_PATH};
use findings::{Findings, ms};
use gateway::Gateway;
use interrupt::Interrupt;
use stage::{BELVO, Stage};

const PLAYING_LOOK_EVERY: Duration = Duration::from_millis(200);

/// What an admin may want to see first; every one of them is run before it is recommended.
const QUERIES: [&str; 3] = [
    "SELECT seq, received_at, type, code, resource, state FROM inbox",
    "SELECT value_date, amount, currency, description FROM transactions LIMIT 10",
    "SELECT resource, state, objects, lag_seconds, last_fetched FROM freshness",
];

/// Runs all scenes.
///
/// # Errors
/// When anything that was shown was not true.
pub fn run(args: &Demo) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let interrupt = Interrupt::watch()?;
    let directory = Directory::prepare(args.dir.clone())?;
    let mut stage = raise(directory, interrupt, begun)?;
    scenes::webhooks_arrive(&mut stage)?;
    scenes::fetches_follow(&mut stage)?;
    scenes::others_stay_outside(&mut stage)?;
    let mut stage = scenes::killed_and_complete(stage)?;
    scenes::the_file_is_right(&mut stage)?;
    queries_run(&mut stage)?;
    let log = stage.directory.shown("gateway.log");
    if args.keep_running {
        stage.findings.print();
        println!("   shown in {:.1} s", begun.elapsed().as_secs_f64());
        advise(&stage.directory);
        stage.findings.conclude(&log)?;
        play(stage)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Stage {
        gateway,
        mut findings,
        directory,
        ..
    } = stage;
    end(gateway, &mut findings)?;
    findings.print();
    println!("   shown in {:.1} s", begun.elapsed().as_secs_f64());
    advise(&directory);
    findings.conclude(&log)?;
    Ok(ExitCode::SUCCESS)
}

fn raise(directory: Directory, interrupt: Interrupt, begun: Instant) -> anyhow::Result<Stage> {
    println!(
        "A belvo-gateway and a stand-in for Belvo on this machine; everything is in {}",
        directory.shown(".")
    );
    println!("\n1. The gateway starts");
    let stage = Stage::set(directory, interrupt, begun)?;
    let Gateway {
        address,
        ready_after,
        ..
    } = &stage.gateway;
    println!(
        "   ready after {}, listening on {address}, allowed is {BELVO}",
        ms(*ready_after)
    );
    println!(
        "   the stand-in answers as Belvo's API on {}",
        stage.standin.base_url()
    );
    Ok(stage)
}

fn queries_run(stage: &mut Stage) -> anyhow::Result<()> {
    let file = stage.file()?;
    let rows = QUERIES
        .iter()
        .map(|sql| file.rows(sql))
        .collect::<Result<Vec<_>, _>>()?;
    stage.findings.check(
        rows.iter().all(|rows| *rows > 0),
        "the three queries below have an answer",
    );
    Ok(())
}

fn end(gateway: Gateway, findings: &mut Findings) -> anyhow::Result<()> {
    let (status, after) = gateway.stop()?;
    findings.check(
        status.success(),
        format!(
            "asked to end, the gateway did after {} ({status})",
            ms(after)
        ),
    );
    Ok(())
}

fn advise(directory: &Directory) {
    let database = directory.shown("state/gateway.db");
    println!("\nLook at the file");
    for sql in QUERIES {
        println!("   sqlite3 -box {database} \"{sql}\"");
    }
    println!("\nNext: a real one");
    println!(
        "   copy {}, change the lines whose comment says \"A real one\",",
        directory.shown("config.toml")
    );
    println!("   put Belvo's keys and your Authorization value into the files it names, then");
    println!("   belvo-gateway check --config FILE && belvo-gateway serve --config FILE");
}

/// Stays up and prints fetches until Ctrl-C, or until the gateway ends by itself.
fn play(mut stage: Stage) -> anyhow::Result<()> {
    invite(&stage);
    while !stage.interrupt.wait(PLAYING_LOOK_EVERY) {
        stage.fetches.print_for(Duration::ZERO);
        stage.gateway.still_runs()?;
    }
    let (status, after) = stage.gateway.stop()?;
    println!("\nThe gateway ended after {} ({status})", ms(after));
    Ok(())
}

fn invite(stage: &Stage) {
    let (address, link) = (stage.gateway.address, &stage.links[0].id);
    let (ca, authorization) = (
        stage.directory.shown("tls/ca.pem"),
        stage.directory.shown("authorization"),
    );
    let webhook = new_available(Resource::Transactions, link, 1);
    println!(
        "\nStill running until Ctrl-C; Belvo would POST to https://{address}{HOOK_PATH}. Play Belvo with"
    );
    println!(
        "   curl -i --interface {BELVO} --cacert {ca} -H \"Authorization: $(cat {authorization})\" \\"
    );
    println!("     -d '{webhook}' \\");
    println!("     https://{address}{HOOK_PATH}");
}
