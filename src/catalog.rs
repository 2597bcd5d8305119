//! THE TABLE: which webhook leads to which resource, and how a resource is listed and kept.
//! A new webhook is one row of [`WEBHOOKS`] and one payload file, a new resource one row of [`RESOURCES`]; no `match`
//! elsewhere names a type or a resource. Pure: knows no HTTP and no SQL.

use crate::limits::PAGE_SIZE_MAX;
use crate::webhook::Envelope;

/// A kind of webhook and what it leads to.
#[derive(Debug)]
pub struct Webhook {
    /// `webhook_type` as Belvo writes it.
    pub kind: &'static str,
    /// `webhook_code` as Belvo writes it.
    pub code: &'static str,
    /// What it leads to.
    pub action: Action,
}

/// What a kind of webhook leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch this resource of the link, all of it. The name is a row of [`RESOURCES`].
    Fetch(&'static str),
}

/// Something that Belvo keeps for a link and that can be listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The name it is stored under: `objects.resource`, `work.resource`, and the name of its view.
    pub name: &'static str,
    /// `webhook_type` of its events.
    pub kind: &'static str,
    /// Path of the list, with its trailing slash. The list takes `link`, `page` and `page_size` (docs/belvo.md).
    pub path: &'static str,
    /// Objects asked for in one page, at most.
    pub page_size: u32,
}

const fn resource(name: &'static str, kind: &'static str, path: &'static str) -> Resource {
    Resource {
        name,
        kind,
        path,
        page_size: PAGE_SIZE_MAX,
    }
}

/// Every resource we can fetch. Paths: Belvo's API description 1.223.0.
pub const RESOURCES: &[Resource] = &[
    resource("accounts", "ACCOUNTS", "/api/accounts/"),
    resource("owners", "OWNERS", "/api/owners/"),
    resource("transactions", "TRANSACTIONS", "/api/transactions/"),
    resource("bills", "BILLS", "/api/bills/"),
    resource("investments", "INVESTMENTS", "/api/br/investments/"),
    resource(
        "investment_transactions",
        "INVESTMENT_TRANSACTIONS",
        "/api/br/investment-transactions/",
    ),
    // Retired as a product; the short path of older material is no longer in the description.
    resource("balances", "BALANCES", "/api/br/balances/"),
];

const fn fetch(kind: &'static str, code: &'static str, resource: &'static str) -> Webhook {
    Webhook {
        kind,
        code,
        action: Action::Fetch(resource),
    }
}

/// Every kind of webhook we act on. `new_..._available` is the documented spelling; one article of Belvo's calls the same
/// family `new_..._updated`, so both are here. A `new_...` event also stands for changes, hence the whole list.
pub const WEBHOOKS: &[Webhook] = &[
    fetch("ACCOUNTS", "historical_update", "accounts"),
    fetch("ACCOUNTS", "new_accounts_available", "accounts"),
    fetch("ACCOUNTS", "new_accounts_updated", "accounts"),
    fetch("OWNERS", "historical_update", "owners"),
    fetch("OWNERS", "new_owners_available", "owners"),
    fetch("OWNERS", "new_owners_updated", "owners"),
    fetch("TRANSACTIONS", "historical_update", "transactions"),
    fetch("TRANSACTIONS", "new_transactions_available", "transactions"),
    fetch("TRANSACTIONS", "new_transactions_updated", "transactions"),
    fetch("BILLS", "historical_update", "bills"),
    fetch("BILLS", "new_bills_available", "bills"),
    fetch("BILLS", "new_bills_updated", "bills"),
    fetch("INVESTMENTS", "historical_update", "investments"),
    fetch("INVESTMENTS", "new_investments_available", "investments"),
    fetch("INVESTMENTS", "new_investments_updated", "investments"),
    fetch(
        "INVESTMENT_TRANSACTIONS",
        "historical_update",
        "investment_transactions",
    ),
    fetch(
        "INVESTMENT_TRANSACTIONS",
        "new_investment_transactions_available",
        "investment_transactions",
    ),
    fetch(
        "INVESTMENT_TRANSACTIONS",
        "new_investment_transactions_updated",
        "investment_transactions",
    ),
    fetch("BALANCES", "historical_update", "balances"),
    fetch("BALANCES", "new_balances_available", "balances"),
    fetch("BALANCES", "new_balances_updated", "balances"),
];

/// Differs between two programs that may decide differently about a webhook.
pub fn fingerprint() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let rows = WEBHOOKS
        .iter()
        .map(|row| format!("{}.{}", row.kind, row.code));
    format!("{version} {}", rows.collect::<Vec<_>>().join(" "))
}

/// The resource stored under `name`.
pub fn resource_named(name: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.name == name)
}

/// The row for an envelope: by code first, because Belvo's own pages show `new_investments_available` under the type
/// ACCOUNTS; by type among rows that share a code. Upper and lower case are the same. Payments (an object in place of a
/// link) reuse type names and never match.
pub fn webhook_for(envelope: &Envelope) -> Option<&'static Webhook> {
    if envelope.link_id.is_none() && envelope.object_id.is_some() {
        return None;
    }
    let code = envelope.code.as_deref()?;
    let kind = envelope.kind.as_deref().unwrap_or_default();
    let rows = || {
        WEBHOOKS
            .iter()
            .filter(|row| row.code.eq_ignore_ascii_case(code))
    };
    match (
        rows().find(|row| row.kind.eq_ignore_ascii_case(kind)),
        rows().count(),
    ) {
        (Some(row), _) => Some(row),
        (None, 1) => rows().next(),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn envelope(kind: &str, code: &str) -> Envelope {
        Envelope {
            kind: Some(kind.to_owned()),
            code: Some(code.to_owned()),
            link_id: Some("16f68516-bcbc-4cf7-b815-c500d4204e28".to_owned()),
            ..Envelope::default()
        }
    }

    fn action(kind: &str, code: &str) -> Option<Action> {
        webhook_for(&envelope(kind, code)).map(|row| row.action)
    }

    #[test]
    fn no_kind_of_webhook_stands_twice() {
        let keys: HashSet<_> = WEBHOOKS.iter().map(|row| (row.kind, row.code)).collect();
        assert_eq!(keys.len(), WEBHOOKS.len());
    }

    #[test]
    fn no_resource_stands_twice() {
        let names: HashSet<_> = RESOURCES.iter().map(|row| row.name).collect();
        let paths: HashSet<_> = RESOURCES.iter().map(|row| row.path).collect();
        assert_eq!(
            (names.len(), paths.len()),
            (RESOURCES.len(), RESOURCES.len())
        );
    }

    #[test]
    fn every_webhook_leads_to_a_resource_and_every_resource_is_reached() {
        let reached: HashSet<_> = WEBHOOKS
            .iter()
            .map(|row| match row.action {
                Action::Fetch(name) => name,
            })
            .collect();
        assert_eq!(reached, RESOURCES.iter().map(|row| row.name).collect());
    }

    #[test]
    fn every_path_is_under_api_and_ends_with_a_slash() {
        assert!(
            RESOURCES
                .iter()
                .all(|row| row.path.starts_with("/api/") && row.path.ends_with('/'))
        );
    }

    #[test]
    fn every_row_is_found_by_its_own_type_and_code_in_either_case() {
        for row in WEBHOOKS {
            assert_eq!(action(row.kind, row.code), Some(row.action));
            assert_eq!(
                action(&row.kind.to_lowercase(), &row.code.to_uppercase()),
                Some(row.action)
            );
        }
    }

    #[test]
    fn the_code_decides_before_the_type() {
        assert_eq!(
            action("ACCOUNTS", "new_investments_available"),
            Some(Action::Fetch("investments"))
        );
    }

    #[test]
    fn a_code_that_many_share_needs_a_known_type() {
        assert_eq!(action("SOMETHING_NEW", "historical_update"), None);
    }

    #[test]
    fn a_payment_that_reuses_a_type_name_is_not_taken_for_data() {
        let payment = Envelope {
            object_id: Some("d2e40773-19f6-48d1-93c3-3590ec0c74df".to_owned()),
            link_id: None,
            ..envelope("TRANSACTIONS", "historical_update")
        };
        assert!(webhook_for(&payment).is_none());
    }
}
