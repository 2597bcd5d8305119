//! The listener's certificate as a client would see it: chain, authority, name, time, key. It is read from the files, as the
//! gateway does: over the wire this machine is a stranger, on whom the gateway closes before TLS.

use super::{Finding, is_denied};
use crate::config::{Settings, Tls};
use crate::fetch::system_roots;
use crate::gateway;
use crate::intake::tls::Pair;
use crate::limits::{CERTIFICATE_ENDS, CERTIFICATE_ENDS_SOON};
use crate::system::chain::{self, Distrust};
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;

const CHECK: &str = "certificate";

pub(super) fn look(settings: &Settings, name: Option<&str>) -> Vec<Finding> {
    let Some(files) = gateway::tls_files(settings) else {
        return vec![Finding::ok(
            CHECK,
            "TLS is done by somebody in front; its certificate is not looked at here",
        )];
    };
    let pair = match files.read() {
        Ok(pair) => pair,
        Err(error) => return vec![unusable(settings, &sentence(&error))],
    };
    let domain = match &settings.tls {
        Tls::Acme(acme) => Some(acme.domain.as_str()),
        _ => None,
    };
    let path = files.certificate.display().to_string();
    let now = UnixMs::now();
    let mut findings = vec![trusted(&path, &pair, name.or(domain), now)];
    findings.extend(chain::misplaced(pair.chain()).map(|place| {
        Finding::warning(
            "certificate-chain",
            format!("certificate {place} in {path} did not issue the one before it; not every client puts up with that"),
            "put them in their order: the gateway's own first, then each issuer's; what no certificate before it needs is left out",
        )
    }));
    if now.is_plausible() {
        findings.push(ending(&path, pair.validity.until, now));
    }
    findings
}

fn unusable(settings: &Settings, why: &str) -> Finding {
    match &settings.tls {
        _ if is_denied(why) => Finding::unseen(CHECK, why),
        Tls::Acme(acme) => Finding::broken(
            CHECK,
            format!("there is no certificate for {} yet: {why}", acme.domain),
            "see belvo-gateway problems and the log; the authority must reach this machine at port 443 under that name",
        ),
        _ => Finding::broken(
            CHECK,
            why,
            "put a certificate chain and its own key in place; belvo-gateway check says the same",
        ),
    }
}

/// What a client with this machine's authorities says.
fn trusted(path: &str, pair: &Pair, name: Option<&str>, now: UnixMs) -> Finding {
    let certificates = pair.chain().len();
    match chain::judge(pair.chain(), &system_roots(), name, now) {
        Ok(()) => {
            let name = name.map_or_else(
                || "; --name NAME says whether it is for the name in the URL".to_owned(),
                |name| format!(" for {name}"),
            );
            Finding::ok(
                CHECK,
                format!("{path}, {certificates} certificates, is trusted{name}"),
            )
        }
        Err(why) => {
            let next = match why {
                Distrust::SelfSigned | Distrust::UnknownAuthority => {
                    "get one from an authority that everybody knows, for example by certbot or [tls] mode = \"acme\""
                }
                Distrust::Incomplete(_) => {
                    "put the whole chain into the file (with certbot: fullchain.pem, not cert.pem)"
                }
                Distrust::Name(_) => {
                    "get one for the name in the URL that Belvo posts to, or correct that URL"
                }
                Distrust::Expired => "renew it now; new files are taken by themselves",
                Distrust::NotYet => "see that the clock is right",
                Distrust::Other(_) => "get a new one",
            };
            Finding::broken(CHECK, format!("{path}: {why}"), next)
        }
    }
}

fn ending(path: &str, until: UnixMs, now: UnixMs) -> Finding {
    const CHECK: &str = "certificate-end";
    let left = until.since(now);
    let said = format!(
        "{path} is valid until {until}, {} days",
        left.as_secs() / 86_400
    );
    if until <= now {
        let next = "renew it now; new files are taken by themselves";
        Finding::broken(CHECK, format!("{path} expired on {until}"), next)
    } else if left < CERTIFICATE_ENDS {
        let urgency = match left < CERTIFICATE_ENDS_SOON {
            true => "now",
            false => "this week",
        };
        let next = format!(
            "find out {urgency} why it was not renewed (with certbot: certbot renew --dry-run)"
        );
        Finding::warning(CHECK, said, next)
    } else {
        Finding::ok(CHECK, said)
    }
}
