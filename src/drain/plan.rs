//! One journal row and the catalog -> what is done about it. Pure: the same row always gives the same plan.

use crate::catalog::{self, Action as Row};
use crate::webhook::{Envelope, Seq};

use super::work::Key;

/// What was decided about a journal row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The row.
    pub seq: Seq,
    /// What it said.
    pub envelope: Envelope,
    /// The decision.
    pub action: Action,
    /// What is to be fetched.
    pub wish: Option<Key>,
    /// Who sent it, and passed the authorization with it; nobody for a probe, which may come without.
    pub authorized: Option<String>,
    /// An earlier row with the same id and bytes; planned all the same.
    pub duplicate_of: Option<Seq>,
}

/// The decision about a row, as `events.action` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something is to be fetched.
    Fetch,
    /// An empty body: somebody tried the URL.
    Probe,
    /// Not in the catalog, or without a usable link: kept and shown.
    Unknown,
}

impl Action {
    /// The word in `events.action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Probe => "probe",
            Self::Unknown => "unknown",
        }
    }
}

/// Decides about one row.
pub fn plan(seq: Seq, peer: &str, body: &str) -> Planned {
    let envelope = Envelope::parse(body).unwrap_or_default();
    let wish = wish(&envelope);
    let action = match &wish {
        Some(_) => Action::Fetch,
        None if body.is_empty() => Action::Probe,
        None => Action::Unknown,
    };
    Planned {
        seq,
        envelope,
        action,
        wish,
        authorized: (!body.is_empty()).then(|| peer.to_owned()),
        duplicate_of: None,
    }
}

/// What the catalog says is to be fetched. Belvo's firewall checks requests against the API description, where a link is
/// a UUID, so anything else is not asked for.
fn wish(envelope: &Envelope) -> Option<Key> {
    let Row::Fetch(resource) = catalog::webhook_for(envelope)?.action;
    let link_id = envelope
        .link_id
        .as_ref()
        .filter(|link| uuid::Uuid::try_parse(link).is_ok())?;
    Some(Key {
        link_id: link_id.clone(),
        resource: resource.to_owned(),
        object_id: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

    fn planned(kind: &str, code: &str, link: &str) -> Planned {
        plan(
            Seq(1),
            "127.0.0.1",
            &format!(r#"{{"webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}"}}"#),
        )
    }

    #[test]
    fn a_known_webhook_asks_for_its_resource() {
        let planned = planned("BILLS", "new_bills_available", LINK);
        assert_eq!(planned.action, Action::Fetch);
        let key = Key {
            link_id: LINK.to_owned(),
            resource: "bills".to_owned(),
            object_id: String::new(),
        };
        assert_eq!(planned.wish, Some(key));
    }

    #[test]
    fn an_unknown_webhook_is_kept_and_asks_for_nothing() {
        let planned = planned("WEATHER", "sunny", LINK);
        assert_eq!((planned.action, planned.wish), (Action::Unknown, None));
        assert_eq!(planned.envelope.kind.as_deref(), Some("WEATHER"));
    }

    #[test]
    fn a_link_that_is_no_uuid_is_not_asked_for() {
        assert_eq!(
            planned("BILLS", "new_bills_available", "../../links").action,
            Action::Unknown
        );
    }

    #[test]
    fn an_empty_body_is_a_probe() {
        assert_eq!(plan(Seq(1), "127.0.0.1", "").action, Action::Probe);
    }

    proptest! {
        #[test]
        fn planning_never_fails_whatever_was_journalled(body in any::<String>()) {
            let planned = plan(Seq(1), "127.0.0.1", &body);
            prop_assert_eq!(planned.action == Action::Fetch, planned.wish.is_some());
        }
    }
}
