//! Everything that is up while the demo runs, and the two things every scene does with it: send a webhook and wait until
//! what it announced is fetched. It prints only the gateway's fetches.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::directory::{Directory, HOOK_PATH, Secrets};
use super::fetches::Fetches;
use super::file::StateFile;
use super::findings::Findings;
use super::gateway::Gateway;
use super::interrupt::Interrupt;
use crate::standin::objects::Household;
use crate::standin::payloads::Resource;
use crate::standin::sender::{Sender, Step, Unanswered};
use crate::standin::{Options, StandIn};

/// The address that plays Belvo's, and one that does not.
pub(super) const BELVO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
pub(super) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

const FETCH_WAIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The demo's things.
#[derive(Debug)]
pub(super) struct Stage {
    // The gateway goes before what it talks to and what it writes into.
    pub(super) gateway: Gateway,
    pub(super) standin: StandIn,
    pub(super) fetches: Fetches,
    pub(super) interrupt: Interrupt,
    pub(super) secrets: Secrets,
    pub(super) findings: Findings,
    /// A link with a little of everything, and one with many transactions.
    pub(super) links: [Link; 2],
    /// The bodies that were answered 200, and those that were refused.
    pub(super) sent: Vec<String>,
    pub(super) refused: Vec<String>,
    pub(super) directory: Directory,
}

/// A link and how many objects it has of what.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: String,
    pub(super) holds: Vec<(Resource, usize)>,
}

impl Stage {
    /// Fills the directory, starts the stand-in and the gateway.
    pub(super) fn set(
        directory: Directory,
        interrupt: Interrupt,
        begun: Instant,
    ) -> anyhow::Result<Self> {
        let secrets = Secrets::new();
        let (observer, fetches) = Fetches::new(begun);
        let options = Options {
            tls: Some(directory.identity("standin")?),
            keys: secrets.api_keys.clone(),
            edge_limit: true,
            observer: Some(observer),
        };
        let standin =
            StandIn::start(options).context("cannot start the stand-in for Belvo on 127.0.0.1")?;
        let links = [
            a_little_of_everything(&standin),
            many_transactions(&standin),
        ];
        directory.configure(&secrets, &BELVO.to_string(), standin.base_url())?;
        let gateway = Gateway::start(&directory)?;
        let (findings, sent, refused) = Default::default();
        Ok(Self {
            gateway,
            standin,
            fetches,
            interrupt,
            secrets,
            findings,
            links,
            sent,
            refused,
            directory,
        })
    }

    pub(super) fn file(&self) -> anyhow::Result<StateFile> {
        StateFile::open(&self.directory.file("state/gateway.db"))
    }

    /// An error when the gateway has ended or the user wants to; called while waiting.
    pub(super) fn goes_on(&mut self) -> anyhow::Result<()> {
        if self.interrupt.wait(Duration::ZERO) {
            bail!("interrupted; the gateway was killed");
        }
        self.gateway.still_runs()
    }

    /// How many objects of a link are in the file.
    pub(super) fn stored(&self, resource: Resource, link: &str) -> anyhow::Result<usize> {
        Ok(self.file()?.objects(resource.name(), link)?.len())
    }

    pub(super) fn sender(&self, source: IpAddr, authorization: &str) -> anyhow::Result<Sender> {
        let sender = Sender::tls(self.gateway.address, HOOK_PATH, &self.directory.ca_file());
        Ok(sender
            .context("cannot read the demo's authority")?
            .from(source)
            .authorization(authorization))
    }

    /// Belvo's own sender.
    pub(super) fn belvo(&self) -> anyhow::Result<Sender> {
        self.sender(BELVO, &self.secrets.authorization)
    }

    /// Prints the fetches until everything that was announced for `link`, `wishes` things, is fetched.
    pub(super) fn wait_fetched(&mut self, link: &str, wishes: usize) -> anyhow::Result<()> {
        let (begun, file) = (Instant::now(), self.file()?);
        loop {
            self.fetches.print_for(LOOK_EVERY);
            let now = file.wishes(link)?;
            if now.all >= wishes && now.waiting == 0 {
                self.fetches.print_for(Duration::ZERO);
                return Ok(());
            }
            self.goes_on()?;
            if begun.elapsed() > FETCH_WAIT {
                let (all, waiting) = (now.all, now.waiting);
                let log = self.directory.shown("gateway.log");
                bail!(
                    "of {wishes} announced resources {all} are known and {waiting} not fetched yet; see {log}"
                );
            }
        }
    }
}

/// What to do about a webhook that should have been answered and was not.
pub(super) fn explain(error: Unanswered) -> anyhow::Error {
    let advice = match (error.step, error.source.kind()) {
        (Step::Connect, ErrorKind::AddrNotAvailable) => {
            "sending from 127.0.0.2 needs Linux, where all of 127.0.0.0/8 is this machine"
        }
        (Step::Connect, _) => "the gateway's port does not answer; see gateway.log",
        (Step::Handshake, _) => "the gateway did not let 127.0.0.2 speak; see gateway.log",
        (Step::Request | Step::Answer, _) => "the gateway did not answer; see gateway.log",
    };
    anyhow::Error::new(error).context(advice)
}

fn a_little_of_everything(standin: &StandIn) -> Link {
    let mut house = Household::new(1, 3);
    let link = house.link().to_owned();
    let objects = Resource::BANKING.map(|resource| {
        let count = match resource {
            Resource::Transactions => 120,
            Resource::Bills => 4,
            _ => 30,
        };
        (resource, house.objects(resource, count))
    });
    put(standin, link, objects.into())
}

fn many_transactions(standin: &StandIn) -> Link {
    let mut house = Household::new(2, 2);
    let link = house.link().to_owned();
    let objects = house.transactions(2500);
    put(standin, link, vec![(Resource::Transactions, objects)])
}

fn put(standin: &StandIn, id: String, objects: Vec<(Resource, Vec<String>)>) -> Link {
    let holds = objects
        .iter()
        .map(|(resource, objects)| (*resource, objects.len()))
        .collect();
    for (resource, objects) in objects {
        standin.put(resource.path(), &id, objects);
    }
    Link { id, holds }
}
