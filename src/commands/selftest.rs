//! `self-test`: sends one webhook to the running gateway, through the source check, TLS, the authorization and the writer,
//! as Belvo would, and shows what came of it. It is of a kind that leads to nothing, and its `external_id` says who sent it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use super::print;
use crate::cli::SelfTest;
use crate::config::{self, Settings, Surroundings, Tls};
use crate::database::open_reader;
use crate::intake::hops::Told;
use crate::intake::source::AllowList;
use crate::limits::{SELF_TEST_LOOK, SELF_TEST_LOOK_EVERY};
use crate::standin::sender::{Reply, Sender, Step, Unanswered};
use crate::store::inbox::{self, Event, Narrowed};
use crate::system::detour;
use crate::system::secret;

/// What shows in every list who sent it.
const EXTERNAL_ID: &str = "belvo-gateway-install";
/// Of this kind Belvo sends what happens to customers of its payments: kept, and nothing is fetched for it.
const KIND: (&str, &str) = ("CUSTOMERS", "STATUS_UPDATE");

/// Sends it. Exit 1 when it was not answered 200 or is not in the file.
///
/// # Errors
/// When it cannot be sent, was not answered 200, or is not in the file; each with its next step.
pub fn run(arguments: &SelfTest) -> anyhow::Result<ExitCode> {
    let settings = config::load(
        &arguments.configured.config,
        &Surroundings::of_the_service(),
    )?;
    let route = Route::through(&settings, arguments.to)?;
    let id = format!("{:032x}", fastrand::u128(..));
    let reply = route.send(&settings, webhook(&id).as_bytes())?;
    if reply.status != 200 {
        bail!("{}", refused(&route, &reply));
    }
    let event = kept(&settings.state_directory, &id)?;
    let sent = Sent {
        route: &route,
        status: reply.status,
        answered_ms: reply.answered.as_millis(),
        event: &event,
    };
    match arguments.json {
        true => print(&format!("{}\n", serde_json::to_string(&sent)?))?,
        false => print(&sent.in_words())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn webhook(id: &str) -> String {
    let (kind, code) = KIND;
    format!(
        r#"{{"webhook_id":"{id}","webhook_type":"{kind}","webhook_code":"{code}","object_id":"{id}","external_id":"{EXTERNAL_ID}","data":{{}}}}"#
    )
}

/// What the command shows.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(flatten)]
    route: &'a Route,
    status: u16,
    answered_ms: u128,
    #[serde(flatten)]
    event: &'a Event,
}

impl Sent<'_> {
    fn in_words(&self) -> String {
        let Route { from, to, tls, .. } = self.route;
        let tls = if *tls { "over TLS" } else { "without TLS" };
        let behind = match self.route.behind {
            Some(proxy) => format!(" by way of the trusted proxy {proxy}"),
            None => String::new(),
        };
        format!(
            "sent      {} {} with external_id {EXTERNAL_ID}, from {from}{behind} to {to}, {tls}\n\
             answered  {} after {} ms\nkept      as webhook {}, taken to be from {}: {}\n",
            KIND.0,
            KIND.1,
            self.status,
            self.answered_ms,
            self.event.seq,
            self.event.peer.as_deref().unwrap_or("nobody knows whom"),
            self.event.state,
        )
    }
}

/// Where the webhook goes, and from whom it comes.
#[derive(Debug, Serialize)]
struct Route {
    to: SocketAddrV4,
    from: Ipv4Addr,
    /// The trusted proxy that passes it on, when one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<Ipv4Addr>,
    tls: bool,
}

impl Route {
    fn through(settings: &Settings, to: Option<SocketAddr>) -> anyhow::Result<Self> {
        let listen = &settings.listen;
        let addresses = to.as_slice().iter().chain(&listen.addresses);
        let to = addresses.copied().find_map(reachable).context(
            "the gateway listens on no address that IPv4 reaches; send a test from Belvo's dashboard",
        )?;
        let from = an_address("listen.allow", &listen.allow)?;
        let behind = match &listen.proxies {
            Some(proxies) => Some(an_address("listen.trusted-proxies", proxies.trusted())?),
            None => None,
        };
        let tls = settings.tls != Tls::Off;
        Ok(Self {
            to,
            from,
            behind,
            tls,
        })
    }

    fn send(&self, settings: &Settings, body: &[u8]) -> anyhow::Result<Reply> {
        let sender = self.sender(settings)?;
        let detour = detour::connect(self.behind.unwrap_or(self.from), self.to).context(
            "the webhook was not sent (what listens is shown by `systemctl status belvo-gateway.socket belvo-gateway`)",
        )?;
        let stream = detour.stream.try_clone()?;
        let answered = sender.over(stream).and_then(|mut open| open.send(body));
        answered.map_err(|error| anyhow::Error::msg(self.unanswered(&error)))
    }

    fn sender(&self, settings: &Settings) -> anyhow::Result<Sender> {
        let listen = &settings.listen;
        let to = self.to.into();
        let mut sender = match &settings.tls {
            Tls::Off => Sender::plain(to, &listen.path),
            Tls::Files { certificate, .. } => Sender::to_holder(to, &listen.path, certificate)?,
            Tls::Acme(acme) => {
                let file = acme.certificate_file(&settings.state_directory);
                let sender = Sender::to_holder(to, &listen.path, &file);
                sender.with_context(|| format!("there is no certificate yet in {}; `belvo-gateway problems` says what its authority wants", file.display()))?
            }
        };
        if let Some(path) = &listen.authorization_file {
            let values = secret::read_lines(path)?;
            sender = sender.authorization(values[0].expose());
        }
        let told = listen.proxies.as_ref().map(|proxies| proxies.told());
        let (from, to) = (self.from, self.to);
        Ok(match told {
            None => sender,
            Some(Told::XForwardedFor) => sender.header(&format!("X-Forwarded-For: {from}")),
            Some(Told::Forwarded) => sender.header(&format!("Forwarded: for={from}")),
            Some(Told::ProxyProtocol) => {
                let line = format!("PROXY TCP4 {from} {} 40000 {}\r\n", to.ip(), to.port());
                sender.writing_first(line.as_bytes())
            }
        })
    }

    fn unanswered(&self, error: &Unanswered) -> String {
        let (from, to) = (self.from, self.to);
        let next = match error.step {
            Step::Connect | Step::Request => "see that it runs: systemctl status belvo-gateway",
            Step::Handshake => {
                "the running gateway has another certificate than the one in the file, or did not let the sender in: \
                 systemctl restart belvo-gateway, then see `belvo-gateway problems`"
            }
            Step::Answer => {
                "the running gateway did not let the sender in, or ended: see `belvo-gateway check --explain` and \
                 journalctl -u belvo-gateway"
            }
        };
        format!("the webhook from {from} to {to} got {error}; {next}")
    }
}

/// Where a listening address is reached from this machine.
fn reachable(address: SocketAddr) -> Option<SocketAddrV4> {
    let port = address.port();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if !ip.is_unspecified() => Some(SocketAddrV4::new(ip, port)),
        // Also of [::], which takes IPv4 where the system maps it.
        ip if ip.is_unspecified() => Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
        _ => None,
    }
}

fn an_address(key: &str, list: &AllowList) -> anyhow::Result<Ipv4Addr> {
    list.an_ipv4_address().with_context(|| {
        format!(
            "{key} has no IPv4 address to send from; send a test from Belvo's dashboard instead"
        )
    })
}

fn refused(route: &Route, reply: &Reply) -> String {
    let next = match reply.status {
        401 => {
            "the running gateway has another Authorization value than the file: systemctl restart belvo-gateway"
        }
        403 => {
            "the running gateway judges the sender otherwise than its configuration: systemctl restart belvo-gateway"
        }
        404 => "the running gateway has another path: systemctl restart belvo-gateway",
        503 => "it cannot be written down: see `belvo-gateway problems`",
        _ => "see journalctl -u belvo-gateway",
    };
    format!(
        "the webhook from {} to {} was answered {} and not 200; {next}",
        route.from, route.to, reply.status
    )
}

/// The row of the webhook, as soon as it was planned. It is another process that writes the file, so it is looked at.
fn kept(state: &Path, id: &str) -> anyhow::Result<Event> {
    let reader = open_reader(state)?;
    let of_its_kind = Narrowed {
        r#type: Some(KIND.0.to_owned()),
        code: Some(KIND.1.to_owned()),
        ..Narrowed::default()
    };
    let begun = Instant::now();
    loop {
        for event in inbox::list(&reader, &of_its_kind, 20)? {
            let shown = inbox::show(&reader, event.seq)?;
            let body = shown.and_then(|shown| shown.body).unwrap_or_default();
            if body.contains(id) {
                return Ok(event);
            }
        }
        if begun.elapsed() > SELF_TEST_LOOK {
            bail!(
                "the webhook was answered 200 and is not in {} as it should be; see that state-directory is the running gateway's, \
                 then journalctl -u belvo-gateway",
                state.display()
            );
        }
        thread::sleep(SELF_TEST_LOOK_EVERY);
    }
}
