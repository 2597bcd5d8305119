//! `check --explain`: whom the gateway would take a request to be from, by the same code as the gateway. Nothing is sent.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::print;
use crate::cli::Check;
use crate::config::Listen;
use crate::intake::auth::Authorization;
use crate::intake::hops::{FORWARDED_HEADERS, Told, Unclear};
use crate::intake::proxy_line::{self, Whom};
use crate::intake::rules::{Caller, Judged, Rules, Standing};
use crate::intake::source::Peer;

/// What is said, and whether the request would be let in.
struct Explained {
    text: String,
    allowed: bool,
}

/// Explains what would become of the request that the arguments describe.
///
/// # Errors
/// When nothing can be printed, or a header has no colon.
pub(super) fn run(arguments: &Check, listen: &Listen) -> anyhow::Result<ExitCode> {
    let rules = Rules {
        allow: listen.allow.clone(),
        proxies: listen.proxies.clone(),
        authorization: Authorization::default(),
        drift_alarm: false,
    };
    let headers = arguments
        .header
        .iter()
        .map(|line| {
            line.split_once(':').ok_or_else(|| {
                anyhow::anyhow!(
                    "the header {line:?} has no colon; write it as \"X-Forwarded-For: 1.2.3.4\""
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let Some(address) = arguments.explain else {
        return Ok(ExitCode::SUCCESS);
    };
    let peer = Peer::of(SocketAddr::new(address, 0));
    let explained = explain(&rules, peer, &headers, arguments.proxy_line.as_deref());
    print(&explained.text)?;
    Ok(match explained.allowed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn explain(rules: &Rules, peer: Peer, headers: &[(&str, &str)], line: Option<&str>) -> Explained {
    let (address, standing) = (peer.address(), rules.standing(peer));
    let lines = |name: &'static str| lines_of(headers, name);
    let mut text = match standing {
        Standing::Allowed => format!("{address} is in allow: it is judged by its own address\n"),
        Standing::Stranger => format!(
            "{address} is neither in allow nor in trusted-proxies: it is judged by its own address\n"
        ),
        Standing::Proxy(told) => format!(
            "{address} is a trusted proxy: it is judged by the address that it names {}\n",
            place(told)
        ),
    };
    let claimed = FORWARDED_HEADERS
        .into_iter()
        .find(|name| lines(name).next().is_some());
    if let (Standing::Allowed | Standing::Stranger, Some(name)) = (standing, claimed) {
        text += &format!(
            "the header {name} counts for nothing from an address that is no trusted proxy\n"
        );
    }
    let caller = match caller(peer, standing, line) {
        Ok(caller) => caller,
        Err(why) => return Explained::refused(text, &format!("{why}: the connection is closed")),
    };
    match rules.judge(caller, lines) {
        Judged::Allowed(judged) => Explained {
            text: format!(
                "{text}judged: {}\nlet in: {0} is in allow\n",
                judged.address()
            ),
            allowed: true,
        },
        Judged::Stranger(judged) => {
            let answered = match standing {
                Standing::Proxy(_) if !caller.is_named => "answered 403, the body unread",
                _ => "the connection is closed before TLS",
            };
            text += &format!("judged: {}\n", judged.address());
            Explained::refused(
                text,
                &format!("{} is not in allow: {answered}", judged.address()),
            )
        }
        Judged::Unclear(_, unclear) => {
            Explained::refused(text, &format!("{unclear}: answered 403, the body unread"))
        }
    }
}

/// Who is at the other end, as far as the connection tells; or why it is closed.
fn caller(peer: Peer, standing: Standing, line: Option<&str>) -> Result<Caller, String> {
    match (standing, line) {
        (Standing::Proxy(Told::ProxyProtocol), line) => {
            let line = format!("{}\r\n", line.unwrap_or_default());
            match proxy_line::read(line.as_bytes()) {
                Ok(Some((Whom::Client(client), _))) => Ok(Caller::named(client)),
                Ok(_) => Err("the line of the PROXY protocol is not whole".to_owned()),
                Err(unclear) => Err(unclear.to_string()),
            }
        }
        (Standing::Proxy(_), Some(_)) => Err(Unclear::UnexpectedProxyLine.to_string()),
        (Standing::Allowed, Some(_)) => Err(
            "a PROXY line counts for nothing from an address that is no trusted proxy".to_owned(),
        ),
        (_, _) => Ok(Caller::at(peer)),
    }
}

impl Explained {
    fn refused(text: String, why: &str) -> Self {
        Self {
            text: format!("{text}refused: {why}\n"),
            allowed: false,
        }
    }
}

/// Where a proxy names its client.
pub(super) fn place(told: Told) -> String {
    match told.header() {
        Some(name) => format!("in the header {name}"),
        None => "in front of its connections (PROXY protocol)".to_owned(),
    }
}

/// The lines of a header, as they would come to the gateway.
fn lines_of<'a>(headers: &'a [(&str, &str)], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let is_it = move |header: &&(&str, &str)| header.0.trim().eq_ignore_ascii_case(name);
    headers
        .iter()
        .filter(is_it)
        .map(|header| header.1.trim().as_bytes())
}
