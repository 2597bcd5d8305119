//! One journal row and the catalog -> what is done about it. Pure: the same row always gives the same plan.

use std::collections::BTreeSet;

use super::consents;
use super::links;
use super::work::{Key, Wish};
use crate::catalog::{self, Action as Row, CONSENTS, ConsentNews, LINKS, LinkNews, Payments};
use crate::limits::OBJECTS_BY_ID_MAX;
use crate::store::problems::{Change, Kind, Problem};
use crate::webhook::{Envelope, Seq};

/// What was decided about a journal row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The row.
    pub seq: Seq,
    /// What it said.
    pub envelope: Envelope,
    /// The decision.
    pub action: Action,
    /// What it is about, by its name in the catalog.
    pub resource: Option<&'static str>,
    /// What is to be fetched.
    pub wishes: Vec<Wish>,
    /// The objects of the resource that are to be marked as deleted, by id.
    pub gone: BTreeSet<String>,
    /// What it says about its link.
    pub link: Option<links::Said>,
    /// What it says about a consent.
    pub consent: Option<consents::Said>,
    /// What it says Belvo could not retrieve, or that it could.
    pub retrieval: Option<Change>,
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
    /// Objects are marked as deleted.
    Delete,
    /// The state of a link is noted.
    Link,
    /// The state of a consent is noted.
    Consent,
    /// A payment in Brazil or Colombia: kept.
    PaymentsBrazil,
    /// A direct debit in Mexico: kept.
    PaymentsMexico,
    /// An empty body: somebody tried the URL.
    Probe,
    /// No rule for it, or no usable link: kept and shown.
    Unknown,
}

impl Action {
    /// The word in `events.action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Delete => "delete",
            Self::Link => "link",
            Self::Consent => "consent",
            Self::PaymentsBrazil => "payments-br",
            Self::PaymentsMexico => "payments-mx",
            Self::Probe => "probe",
            Self::Unknown => "unknown",
        }
    }
}

/// Decides about one row.
pub fn plan(seq: Seq, peer: &str, body: &str) -> Planned {
    let envelope = Envelope::parse(body).unwrap_or_default();
    let row = catalog::action_for(&envelope);
    let mut planned = Planned {
        seq,
        envelope,
        action: if body.is_empty() {
            Action::Probe
        } else {
            Action::Unknown
        },
        resource: None,
        wishes: Vec::new(),
        gone: BTreeSet::new(),
        link: None,
        consent: None,
        retrieval: None,
        authorized: (!body.is_empty()).then(|| peer.to_owned()),
        duplicate_of: None,
    };
    match row {
        Some(Row::Payment(Payments::Brazil)) => planned.action = Action::PaymentsBrazil,
        Some(Row::Payment(Payments::Mexico)) => planned.action = Action::PaymentsMexico,
        Some(row) => {
            if let Some(link_id) = link_of(&planned.envelope) {
                planned.follow(row, &link_id);
            }
        }
        None => {}
    }
    planned
}

/// The link, when it can be asked for: Belvo's firewall checks requests against the API description, where a link is a
/// UUID.
fn link_of(envelope: &Envelope) -> Option<String> {
    let link_id = envelope.link_id.as_ref()?;
    uuid::Uuid::try_parse(link_id)
        .is_ok()
        .then(|| link_id.clone())
}

impl Planned {
    fn follow(&mut self, row: Row, link_id: &str) {
        self.resource = row.resource();
        self.action = match row {
            Row::Link(_) => Action::Link,
            Row::Consent(_) => Action::Consent,
            Row::Delete(_) if !self.envelope.data.ids.is_empty() => Action::Delete,
            _ => Action::Fetch,
        };
        match row {
            Row::List(name) => self.wish(link_id, name, "", true),
            Row::New(name) => self.wish(link_id, name, "", false),
            Row::Objects(name) => self.wish_objects(link_id, name),
            // Without an id that can be read, only the list tells what is gone.
            Row::Delete(name) if self.envelope.data.ids.is_empty() => {
                self.wish(link_id, name, "", true);
            }
            Row::Delete(_) => self.gone = self.envelope.data.ids.clone(),
            Row::Link(LinkNews::Deleted) => {}
            Row::Link(_) => self.wish(link_id, LINKS.name, link_id, false),
            Row::Ready => {
                self.resource = Some(LINKS.name);
                self.wish(link_id, LINKS.name, link_id, true);
            }
            Row::Consent(news) => self.follow_consent(news, link_id),
            Row::Payment(_) => {}
        }
        let code = self.envelope.code.clone().unwrap_or_default();
        self.link = match row {
            Row::Link(LinkNews::Look) => None,
            Row::Link(news) => Some(links::Said::News(news, reason(&self.envelope))),
            Row::List(_) | Row::New(_) => Some(links::Said::Works(code)),
            // Belvo sends these from what it has, without asking the institution.
            Row::Objects(_) | Row::Delete(_) | Row::Consent(_) | Row::Ready | Row::Payment(_) => {
                None
            }
        };
        if !matches!(row, Row::Link(_) | Row::Consent(_)) {
            self.retrieval = self.retrieval(link_id);
        }
    }

    fn follow_consent(&mut self, news: ConsentNews, link_id: &str) {
        if let Some(consent_id) = self.envelope.data.consent_id.clone() {
            self.wish(link_id, CONSENTS.name, &consent_id, false);
            self.consent = Some(consents::Said::new(
                consent_id,
                link_id,
                news,
                &self.envelope,
            ));
        }
        if matches!(news, ConsentNews::Expired | ConsentNews::Revoked) {
            self.wish(link_id, LINKS.name, link_id, false);
        }
    }

    fn wish_objects(&mut self, link_id: &str, resource: &'static str) {
        let ids = self.envelope.data.ids.clone();
        if ids.is_empty() || ids.len() > OBJECTS_BY_ID_MAX {
            return self.wish(link_id, resource, "", true);
        }
        for id in ids {
            self.wish(link_id, resource, &id, false);
        }
    }

    fn wish(&mut self, link_id: &str, resource: &str, object_id: &str, whole: bool) {
        let key = Key {
            link_id: link_id.to_owned(),
            resource: resource.to_owned(),
            object_id: object_id.to_owned(),
        };
        self.wishes.push(Wish { key, whole });
    }

    /// Belvo keeps what it did collect even when it reports an error, so the fetch goes on beside the problem.
    fn retrieval(&self, link_id: &str) -> Option<Change> {
        let subject = format!("{} of link {link_id}", self.resource?);
        let errors = &self.envelope.data.errors;
        if errors.is_empty() {
            return Some(Change::Close(Kind::RetrievalFailed, subject));
        }
        let codes = Vec::from_iter(errors.iter().map(String::as_str)).join(", ");
        Some(Change::Open(Problem {
            kind: Kind::RetrievalFailed,
            subject,
            text: format!(
                "Belvo reports with webhook {} that it could not collect everything: {codes}",
                self.seq
            ),
            next_step: format!(
                "look the code up in Belvo's error list; `belvo-gateway events show {}` has all that was said; what Belvo did collect is fetched",
                self.seq
            ),
            evidence: None,
        }))
    }
}

/// Why a link is as it is: the error code where there is one, else the webhook's own code.
fn reason(envelope: &Envelope) -> String {
    let code = envelope.data.errors.iter().next();
    code.or(envelope.code.as_ref()).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";
    const IDS: [&str; 2] = [
        "0a5d7f9e-6f0c-4c25-9d3a-111111111111",
        "0a5d7f9e-6f0c-4c25-9d3a-222222222222",
    ];

    fn planned(kind: &str, code: &str, link: &str) -> Planned {
        with_data(kind, code, link, "{}")
    }

    fn with_data(kind: &str, code: &str, link: &str, data: &str) -> Planned {
        plan(
            Seq(1),
            "127.0.0.1",
            &format!(
                r#"{{"webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}","data":{data}}}"#
            ),
        )
    }

    fn wishes(planned: &Planned) -> Vec<(&str, &str, bool)> {
        planned
            .wishes
            .iter()
            .map(|wish| {
                (
                    wish.key.resource.as_str(),
                    wish.key.object_id.as_str(),
                    wish.whole,
                )
            })
            .collect()
    }

    #[test]
    fn a_known_webhook_asks_for_its_resource() {
        let planned = planned("BILLS", "historical_update", LINK);
        assert_eq!(planned.action, Action::Fetch);
        assert_eq!(planned.resource, Some("bills"));
        assert_eq!(wishes(&planned), [("bills", "", true)]);
        assert!(planned.wishes.iter().all(|wish| wish.key.link_id == LINK));
    }

    #[test]
    fn what_is_new_does_not_need_the_whole_list() {
        let planned = planned("BILLS", "new_bills_available", LINK);
        assert_eq!(wishes(&planned), [("bills", "", false)]);
    }

    #[test]
    fn few_updates_are_asked_for_by_id_and_many_by_their_list() {
        let data = format!(
            r#"{{"count":2,"updated_transactions":["{}","{}"]}}"#,
            IDS[0], IDS[1]
        );
        let few = with_data("TRANSACTIONS", "transactions_updated", LINK, &data);
        assert_eq!(
            wishes(&few),
            [
                ("transactions", IDS[0], false),
                ("transactions", IDS[1], false)
            ]
        );
        let ids: Vec<_> = (0..=OBJECTS_BY_ID_MAX)
            .map(|number| format!(r#""0a5d7f9e-6f0c-4c25-9d3a-{number:012}""#))
            .collect();
        let data = format!(r#"{{"ids":[{}]}}"#, ids.join(","));
        let many = with_data("TRANSACTIONS", "transactions_updated", LINK, &data);
        assert_eq!(wishes(&many), [("transactions", "", true)]);
    }

    #[test]
    fn deleted_objects_are_marked_and_not_fetched() {
        let data = format!(r#"{{"deleted_transactions":["{}"]}}"#, IDS[0]);
        let planned = with_data("TRANSACTIONS", "transactions_deleted", LINK, &data);
        assert_eq!((planned.action, planned.wishes.len()), (Action::Delete, 0));
        assert_eq!(Vec::from_iter(planned.gone), [IDS[0]]);
    }

    #[test]
    fn a_deletion_without_a_readable_id_reads_the_list() {
        let planned = planned("TRANSACTIONS", "transactions_deleted", LINK);
        assert_eq!(wishes(&planned), [("transactions", "", true)]);
        assert_eq!(planned.action, Action::Fetch);
    }

    #[test]
    fn trouble_with_a_link_reads_its_record_and_says_why() {
        let data = r#"{"error_code":"login_error","status":400}"#;
        let planned = with_data("LINK", "invalid_credentials", LINK, data);
        assert_eq!(wishes(&planned), [("links", LINK, false)]);
        let said = links::Said::News(LinkNews::Invalid, "login_error".to_owned());
        assert_eq!((planned.link, planned.retrieval), (Some(said), None));
    }

    #[test]
    fn a_deleted_link_is_not_asked_for() {
        let planned = planned("LINK", "link_deleted", LINK);
        assert_eq!((planned.action, planned.wishes.len()), (Action::Link, 0));
    }

    #[test]
    fn an_expired_consent_reads_its_record_and_that_of_its_link() {
        let data = format!(r#"{{"consent_id":"{}","action":"renew"}}"#, IDS[0]);
        let planned = with_data("CONSENT", "consent_expired", LINK, &data);
        assert_eq!(
            wishes(&planned),
            [("consents", IDS[0], false), ("links", LINK, false)]
        );
    }

    #[test]
    fn errors_in_the_data_are_a_problem_beside_the_fetch() {
        let data = r#"{"errors":[{"code":"institution_down"}]}"#;
        let planned = with_data("OWNERS", "historical_update", LINK, data);
        assert_eq!(wishes(&planned), [("owners", "", true)]);
        let Some(Change::Open(problem)) = planned.retrieval else {
            panic!("no problem");
        };
        assert!(problem.text.contains("institution_down"));
    }

    #[test]
    fn an_unknown_webhook_is_kept_and_asks_for_nothing() {
        let planned = planned("WEATHER", "sunny", LINK);
        assert_eq!((planned.action, planned.wishes.len()), (Action::Unknown, 0));
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
            prop_assert_eq!(planned.action == Action::Fetch, !planned.wishes.is_empty());
        }
    }
}
