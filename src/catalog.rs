//! THE TABLE: which webhook leads to what, and how a resource is asked for and kept. A new webhook is one row of
//! [`WEBHOOKS`] and one payload file, a new resource one row of [`RESOURCES`]; no `match` elsewhere names a type or a
//! resource. [`action_for`] has the rules for what stands in no row. Pure: knows no HTTP and no SQL.

use crate::limits::PAGE_SIZE_MAX;
use crate::webhook::Envelope;

/// A kind of webhook and what it leads to.
#[derive(Debug)]
pub struct Webhook {
    /// `webhook_type` as Belvo writes it; `eventType` of a direct debit.
    pub kind: &'static str,
    /// `webhook_code` as Belvo writes it; empty for a direct debit, whose `eventCode`s are not all documented.
    pub code: &'static str,
    /// What it leads to.
    pub action: Action,
}

/// What a kind of webhook leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch the whole list of this resource of the link. The name is a row of [`RESOURCES`].
    List(&'static str),
    /// Fetch what is new in it.
    New(&'static str),
    /// Fetch the objects whose ids it names.
    Objects(&'static str),
    /// Mark the objects whose ids it names as deleted.
    Delete(&'static str),
    /// Note what it says about the link, and read the link's record.
    Link(LinkNews),
    /// Note what it says about a consent, and read the consent's record.
    Consent(ConsentNews),
    /// Read the link's record and fetch every resource of the link that was never fetched.
    Ready,
    /// Keep it and do nothing.
    Payment(Payments),
}

impl Action {
    /// The resource it is about.
    pub fn resource(self) -> Option<&'static str> {
        match self {
            Self::List(name) | Self::New(name) | Self::Objects(name) | Self::Delete(name) => {
                Some(name)
            }
            Self::Link(_) | Self::Consent(_) | Self::Ready | Self::Payment(_) => None,
        }
    }
}

/// What a webhook says about its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// Its credentials are not accepted any more.
    Invalid,
    /// It needs a new token from its user.
    TokenRequired,
    /// Belvo has deleted it.
    Deleted,
    /// Something else: only the record tells.
    Look,
}

/// What a webhook says about a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentNews {
    /// It ends soon.
    Expiring,
    /// It has ended.
    Expired,
    /// Its user took it back.
    Revoked,
    /// Some of what it covers can never be read.
    Unrecoverable,
    /// Some of what it covers cannot be read for now.
    Unavailable,
    /// Something else, for example another end: only the record tells.
    Look,
}

/// A family of payment webhooks. They are kept; following them is another product's duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payments {
    /// Payments in Brazil, and the older ones in Colombia, which have the same form.
    Brazil,
    /// Direct debit in Mexico.
    Mexico,
}

/// Something that Belvo keeps for a link and that can be fetched.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The name it is stored under: `objects.resource`, `work.resource`, and the name of its view.
    pub name: &'static str,
    /// `webhook_type` of its events.
    pub kind: &'static str,
    /// Path of the list, with its trailing slash. The list takes `link`, `page` and `page_size` (docs/belvo.md).
    pub path: &'static str,
    /// The list's path where the link's institution is in another country, by country code.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// How it is asked for.
    pub shape: Shape,
    /// What `new_..._available` asks for.
    pub news: News,
    /// A list that each of its objects has, by the name that one is stored under.
    pub each: Option<&'static str>,
    /// Paths of a retired product, or of older material only: they are tried, and a 404 means that there is nothing.
    pub retired: &'static [&'static str],
    /// Objects asked for in one page, at most.
    pub page_size: u32,
}

/// How a resource is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A list for each link; one object at the list's path and its id.
    List,
    /// A list for each object of the list at the path, under the object's id and this.
    Beneath(&'static str),
    /// One record, at the path and its id.
    Record,
}

/// What is asked for when something is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The whole list: it declares no filter, or its objects change in place and that must not be missed.
    Whole,
    /// Only what was created lately, by `created_at__gte`.
    Created,
}

impl Resource {
    /// The path of the list of a link in this country (two letters, lower case), or what stands at `object_id`.
    pub fn path_in(&self, country: Option<&str>, object_id: &str) -> String {
        let elsewhere = self
            .elsewhere
            .iter()
            .find(|(code, _)| Some(*code) == country);
        let list = elsewhere.map_or(self.path, |(_, path)| path);
        match self.shape {
            _ if object_id.is_empty() => list.to_owned(),
            Shape::Beneath(rest) => format!("{list}{object_id}/{rest}"),
            Shape::List | Shape::Record => format!("{list}{object_id}/"),
        }
    }
}

const fn resource(name: &'static str, kind: &'static str, path: &'static str) -> Resource {
    Resource {
        name,
        kind,
        path,
        elsewhere: &[],
        shape: Shape::List,
        news: News::Created,
        each: None,
        retired: &[],
        page_size: PAGE_SIZE_MAX,
    }
}

/// A resource whose `new_...` event stands for changes as well (accounts, by Belvo's words), whose objects change in place
/// (investments), or whose list declares no `created_at` filter.
const fn whole(name: &'static str, kind: &'static str, path: &'static str) -> Resource {
    Resource {
        news: News::Whole,
        ..resource(name, kind, path)
    }
}

/// Every resource we can fetch. Paths and filters: Belvo's API description 1.223.0.
pub const RESOURCES: &[Resource] = &[
    whole("accounts", "ACCOUNTS", "/api/accounts/"),
    resource("owners", "OWNERS", "/api/owners/"),
    resource("transactions", "TRANSACTIONS", "/api/transactions/"),
    resource("bills", "BILLS", "/api/bills/"),
    whole("investments", "INVESTMENTS", "/api/br/investments/"),
    resource(
        "investment_transactions",
        "INVESTMENT_TRANSACTIONS",
        "/api/br/investment-transactions/",
    ),
    // Retired as a product; the short path of older material is no longer in the description.
    Resource {
        retired: &["/api/br/balances/"],
        ..resource("balances", "BALANCES", "/api/br/balances/")
    },
    Resource {
        each: Some("exchange_history"),
        ..resource("exchanges", "EXCHANGES", "/api/br/exchanges/")
    },
    Resource {
        shape: Shape::Beneath("history/"),
        ..whole("exchange_history", "EXCHANGE_HISTORY", "/api/br/exchanges/")
    },
    whole("incomes", "INCOMES", "/api/incomes/"),
    whole(
        "recurring_expenses",
        "RECURRING_EXPENSES",
        "/api/recurring-expenses/",
    ),
    whole("risk_insights", "RISK_INSIGHTS", "/api/risk-insights/"),
    Resource {
        elsewhere: &[("cl", "/api/cl/invoices/")],
        ..resource("invoices", "INVOICES", "/api/invoices/")
    },
    resource("tax_returns", "TAX_RETURNS", "/api/tax-returns/"),
    Resource {
        elsewhere: &[("cl", "/api/cl/tax-status/")],
        ..resource("tax_status", "TAX_STATUS", "/api/tax-status/")
    },
    resource(
        "tax_compliance_status",
        "TAX_COMPLIANCE_STATUS",
        "/api/tax-compliance-status/",
    ),
    resource("tax_retentions", "TAX_RETENTIONS", "/api/tax-retentions/"),
    Resource {
        retired: &["/api/tax-declarations/"],
        ..whole(
            "tax_declarations",
            "TAX_DECLARATIONS",
            "/api/tax-declarations/",
        )
    },
    resource(
        "financial_statements",
        "FINANCIAL_STATEMENTS",
        "/api/financial-statements/",
    ),
    resource("debt_reports", "DEBT_REPORTS", "/api/cl/debt-reports/"),
    resource(
        "employment_records",
        "EMPLOYMENT_RECORDS",
        "/api/employment-records/",
    ),
    whole(
        "employment_metrics",
        "EMPLOYMENT_METRICS",
        "/api/employment-metrics/",
    ),
    resource(
        "current_employments",
        "CURRENT_EMPLOYMENTS",
        "/api/mx/current-employments/",
    ),
    Resource {
        elsewhere: &[("co", "/api/co/employments/")],
        retired: &["/api/co/employments/"],
        ..resource("employments", "EMPLOYMENTS", "/api/br/employments/")
    },
];

/// The record of a link. It is kept with the link's state and not among the objects.
pub const LINKS: Resource = Resource {
    shape: Shape::Record,
    ..whole("links", "LINK", "/api/links/")
};

/// The record of a consent, likewise. Consents can be listed for a known person only.
pub const CONSENTS: Resource = Resource {
    shape: Shape::Record,
    ..whole("consents", "CONSENT", "/api/consents/")
};

const fn webhook(kind: &'static str, code: &'static str, action: Action) -> Webhook {
    Webhook { kind, code, action }
}

const fn list(kind: &'static str, code: &'static str, resource: &'static str) -> Webhook {
    webhook(kind, code, Action::List(resource))
}

const fn historical(kind: &'static str, resource: &'static str) -> Webhook {
    list(kind, "historical_update", resource)
}

const fn new(kind: &'static str, code: &'static str, resource: &'static str) -> Webhook {
    webhook(kind, code, Action::New(resource))
}

const fn link(code: &'static str, news: LinkNews) -> Webhook {
    webhook("LINK", code, Action::Link(news))
}

const fn consent(code: &'static str, news: ConsentNews) -> Webhook {
    webhook("CONSENT", code, Action::Consent(news))
}

const fn payment(kind: &'static str, code: &'static str) -> Webhook {
    webhook(kind, code, Action::Payment(Payments::Brazil))
}

const fn direct_debit(kind: &'static str) -> Webhook {
    webhook(kind, "", Action::Payment(Payments::Mexico))
}

/// Every documented kind of webhook (docs/belvo.md names the pages). `new_..._updated`, which one article of Belvo's calls
/// the family of `new_..._available`, and what is newer than this table follow the rules of [`action_for`].
pub const WEBHOOKS: &[Webhook] = &[
    // Banking.
    historical("ACCOUNTS", "accounts"),
    new("ACCOUNTS", "new_accounts_available", "accounts"),
    historical("OWNERS", "owners"),
    new("OWNERS", "new_owners_available", "owners"),
    historical("TRANSACTIONS", "transactions"),
    new("TRANSACTIONS", "new_transactions_available", "transactions"),
    webhook(
        "TRANSACTIONS",
        "transactions_updated",
        Action::Objects("transactions"),
    ),
    webhook(
        "TRANSACTIONS",
        "transactions_deleted",
        Action::Delete("transactions"),
    ),
    historical("BILLS", "bills"),
    new("BILLS", "new_bills_available", "bills"),
    historical("BALANCES", "balances"),
    new("BALANCES", "new_balances_available", "balances"),
    historical("INVESTMENTS", "investments"),
    new("INVESTMENTS", "new_investments_available", "investments"),
    historical("INVESTMENT_TRANSACTIONS", "investment_transactions"),
    new(
        "INVESTMENT_TRANSACTIONS",
        "new_investment_transactions_available",
        "investment_transactions",
    ),
    historical("EXCHANGES", "exchanges"),
    new("EXCHANGES", "new_exchanges_available", "exchanges"),
    // Consents.
    consent("openfinance_consent_about_to_expire", ConsentNews::Expiring),
    consent("openfinance_consent_expired", ConsentNews::Expired),
    consent("consent_expired", ConsentNews::Expired),
    consent(
        "openfinance_consent_with_unrecoverable_resources",
        ConsentNews::Unrecoverable,
    ),
    consent(
        "openfinance_consent_with_temporarily_unavailable_resources",
        ConsentNews::Unavailable,
    ),
    consent("openfinance_consent_expiration_changed", ConsentNews::Look),
    consent("consent_revoked", ConsentNews::Revoked),
    // Links.
    link("invalid_credentials", LinkNews::Invalid),
    link("token_required", LinkNews::TokenRequired),
    link("link_deleted", LinkNews::Deleted),
    // Its type is not documented; the code decides.
    webhook("LINK", "historical_update_progress_complete", Action::Ready),
    // Enrichment.
    historical("INCOMES", "incomes"),
    historical("RECURRING_EXPENSES", "recurring_expenses"),
    historical("RISK_INSIGHTS", "risk_insights"),
    // Fiscal.
    list("INVOICES", "initial_inflow_update", "invoices"),
    list("INVOICES", "initial_outflow_update", "invoices"),
    list("INVOICES", "historical_inflow_update", "invoices"),
    list("INVOICES", "historical_outflow_update", "invoices"),
    historical("INVOICES", "invoices"),
    new("INVOICES", "new_invoices_available", "invoices"),
    historical("TAX_RETURNS", "tax_returns"),
    new("TAX_RETURNS", "new_tax_returns_available", "tax_returns"),
    historical("TAX_STATUS", "tax_status"),
    historical("TAX_COMPLIANCE_STATUS", "tax_compliance_status"),
    historical("TAX_RETENTIONS", "tax_retentions"),
    historical("TAX_DECLARATIONS", "tax_declarations"),
    historical("FINANCIAL_STATEMENTS", "financial_statements"),
    historical("DEBT_REPORTS", "debt_reports"),
    // Employment. Scores have no list of their own any more: they are inside the records.
    historical("EMPLOYMENT_RECORDS", "employment_records"),
    list(
        "EMPLOYMENT_RECORDS",
        "employment_changes",
        "employment_records",
    ),
    historical("EMPLOYMENT_METRICS", "employment_metrics"),
    historical("EMPLOYMENT_SCORES", "employment_records"),
    historical("CURRENT_EMPLOYMENTS", "current_employments"),
    historical("EMPLOYMENTS", "employments"),
    new("EMPLOYMENTS", "new_employments_available", "employments"),
    // Payments in Brazil and Colombia.
    payment("CHARGES", "OBJECT_CREATED"),
    payment("CHARGES", "STATUS_UPDATE"),
    payment("ENROLLMENTS", "OBJECT_CREATED"),
    payment("ENROLLMENTS", "STATUS_UPDATE"),
    payment("PAYMENT_INTENTS", "OBJECT_CREATED"),
    payment("PAYMENT_INTENTS", "STATUS_UPDATE"),
    payment("TRANSACTIONS", "OBJECT_CREATED"),
    payment("TRANSACTIONS", "STATUS_UPDATE"),
    payment("CUSTOMERS", "OBJECT_CREATED"),
    payment("CUSTOMERS", "STATUS_UPDATE"),
    payment("BANK_ACCOUNTS", "OBJECT_CREATED"),
    payment("BANK_ACCOUNTS", "STATUS_UPDATE"),
    payment("PAYMENT_AUTHORIZATIONS", "OBJECT_CREATED"),
    payment("PAYMENT_AUTHORIZATIONS", "STATUS_UPDATE"),
    // Direct debit in Mexico.
    direct_debit("consent_update"),
    direct_debit("customer_update"),
    direct_debit("payment_method_update"),
    direct_debit("payment_request_update"),
];

/// Differs between two programs that may decide differently about a webhook.
pub fn fingerprint() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let rows = WEBHOOKS
        .iter()
        .map(|row| format!("{}.{}", row.kind, row.code));
    format!("{version} {}", rows.collect::<Vec<_>>().join(" "))
}

/// All that can be fetched: the resources, and the records of links and consents.
pub fn everything() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain([&LINKS, &CONSENTS])
}

/// The resource stored under `name`, or the records of links or consents.
pub fn resource_named(name: &str) -> Option<&'static Resource> {
    everything().find(|resource| resource.name == name)
}

/// The resource whose events have this type.
pub fn resource_of_kind(kind: &str) -> Option<&'static Resource> {
    let rows = || {
        WEBHOOKS
            .iter()
            .filter_map(|row| Some((row.kind, row.action.resource()?)))
    };
    RESOURCES
        .iter()
        .find(|resource| resource.kind.eq_ignore_ascii_case(kind))
        .or_else(|| {
            let (_, name) = rows().find(|(of, _)| of.eq_ignore_ascii_case(kind))?;
            resource_named(name)
        })
}

/// What a webhook leads to: the first of these rules that fits, upper and lower case being the same. `None` is unknown.
///
/// 1. Direct debit in Mexico has a form of its own.
/// 2. Other payments name an object in place of a link. They reuse type names, hence before everything else.
/// 3. The type LINK, or a code of its rows.
/// 4. The type CONSENT, or a code that begins like theirs.
/// 5. A row's own code. It decides before the type, because Belvo's own pages show `new_investments_available` under the
///    type ACCOUNTS; the type decides among rows that share a code.
/// 6. `new_<type>_available` and `new_<type>_updated`.
/// 7. `historical_...` and `initial_...` of a known type.
/// 8. Anything else of a known type: fetching once too often does no harm.
pub fn action_for(envelope: &Envelope) -> Option<Action> {
    if envelope.event_type.is_some() && envelope.event_code.is_some() {
        return Some(Action::Payment(Payments::Mexico));
    }
    if envelope.link_id.is_none() && envelope.object_id.is_some() {
        return Some(Action::Payment(Payments::Brazil));
    }
    let kind = envelope.kind.as_deref().unwrap_or_default();
    let code = envelope
        .code
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let row = row(kind, &code).map(|row| row.action);
    if let Some(Action::Link(_) | Action::Ready) = row {
        return row;
    }
    if kind.eq_ignore_ascii_case(LINKS.kind) {
        return Some(Action::Link(LinkNews::Look));
    }
    let of_consent = ["consent_", "openfinance_consent_"];
    if kind.eq_ignore_ascii_case(CONSENTS.kind)
        || of_consent.iter().any(|start| code.starts_with(start))
    {
        let known = row.filter(|action| matches!(action, Action::Consent(_)));
        return Some(known.unwrap_or(Action::Consent(ConsentNews::Look)));
    }
    row.or_else(|| {
        let new = code.strip_prefix("new_").and_then(|rest| {
            rest.strip_suffix("_available")
                .or_else(|| rest.strip_suffix("_updated"))
        });
        new.and_then(resource_of_kind)
            .map(|resource| Action::New(resource.name))
    })
    .or_else(|| Some(Action::List(resource_of_kind(kind)?.name)))
}

/// The row for a type and code; a code that only one row has is enough.
fn row(kind: &str, code: &str) -> Option<&'static Webhook> {
    let rows = || {
        WEBHOOKS
            .iter()
            .filter(|row| row.code.eq_ignore_ascii_case(code))
            .filter(|row| !matches!(row.action, Action::Payment(_)))
    };
    rows()
        .find(|row| row.kind.eq_ignore_ascii_case(kind))
        .or_else(|| rows().next().filter(|_| rows().count() == 1))
}

/// The country of an institution, two letters in lower case: its name ends with country and kind, as in
/// `ofmockbank_br_retail` (docs/belvo.md, Routes).
pub fn country_of(institution: &str) -> Option<&str> {
    let country = institution.rsplit('_').nth(1)?;
    (country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(country)
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
        action_for(&envelope(kind, code))
    }

    fn is_payment(row: &Webhook) -> bool {
        matches!(row.action, Action::Payment(_))
    }

    #[test]
    fn no_kind_of_webhook_stands_twice() {
        let keys: HashSet<_> = WEBHOOKS.iter().map(|row| (row.kind, row.code)).collect();
        assert_eq!(keys.len(), WEBHOOKS.len());
    }

    #[test]
    fn no_resource_stands_twice() {
        let names: HashSet<_> = RESOURCES.iter().map(|row| row.name).collect();
        let kinds: HashSet<_> = RESOURCES.iter().map(|row| row.kind).collect();
        let paths: HashSet<_> = RESOURCES
            .iter()
            .flat_map(|row| {
                let elsewhere = row
                    .elsewhere
                    .iter()
                    .map(|(code, _)| row.path_in(Some(code), ""));
                elsewhere.chain([row.path_in(None, "x")])
            })
            .collect();
        let elsewhere: usize = RESOURCES.iter().map(|row| row.elsewhere.len()).sum();
        assert_eq!(
            (names.len(), kinds.len(), paths.len()),
            (
                RESOURCES.len(),
                RESOURCES.len(),
                RESOURCES.len() + elsewhere
            )
        );
    }

    #[test]
    fn every_webhook_leads_to_a_resource_and_every_resource_is_reached() {
        let named: HashSet<_> = WEBHOOKS
            .iter()
            .filter_map(|row| row.action.resource())
            .collect();
        let beneath: HashSet<_> = RESOURCES.iter().filter_map(|row| row.each).collect();
        let reached: HashSet<_> = named.union(&beneath).copied().collect();
        assert_eq!(reached, RESOURCES.iter().map(|row| row.name).collect());
    }

    #[test]
    fn every_path_is_under_api_and_ends_with_a_slash() {
        for row in everything() {
            for country in [None, Some("cl"), Some("co")] {
                for id in ["", "7"] {
                    let path = row.path_in(country, id);
                    assert!(path.starts_with("/api/") && path.ends_with('/'), "{path}");
                }
            }
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_type_and_code_in_either_case() {
        for row in WEBHOOKS.iter().filter(|row| !is_payment(row)) {
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
            Some(Action::New("investments"))
        );
        assert_eq!(
            action("TRANSACTIONS", "token_required"),
            Some(Action::Link(LinkNews::TokenRequired))
        );
        assert_eq!(
            action("ACCOUNTS", "historical_update_progress_complete"),
            Some(Action::Ready)
        );
    }

    #[test]
    fn links_and_consents_come_before_what_their_code_looks_like() {
        assert_eq!(
            action("LINK", "historical_update"),
            Some(Action::Link(LinkNews::Look))
        );
        assert_eq!(
            action("CONSENT", "new_accounts_available"),
            Some(Action::Consent(ConsentNews::Look))
        );
        assert_eq!(
            action("OWNERS", "openfinance_consent_renewed"),
            Some(Action::Consent(ConsentNews::Look))
        );
    }

    #[test]
    fn what_is_in_no_row_follows_its_family() {
        assert_eq!(
            action("BILLS", "new_bills_updated"),
            Some(Action::New("bills"))
        );
        assert_eq!(
            action("SOMETHING", "new_tax_status_available"),
            Some(Action::New("tax_status"))
        );
        assert_eq!(
            action("INVOICES", "inital_inflow_update"),
            Some(Action::List("invoices"))
        );
        assert_eq!(
            action("OWNERS", "owners_changed"),
            Some(Action::List("owners"))
        );
        assert_eq!(
            action("EMPLOYMENT_SCORES", "new"),
            Some(Action::List("employment_records"))
        );
    }

    #[test]
    fn a_code_that_many_share_needs_a_known_type() {
        assert_eq!(action("SOMETHING_NEW", "historical_update"), None);
        assert_eq!(action("", ""), None);
    }

    #[test]
    fn a_payment_is_kept_even_if_it_reuses_a_type_name() {
        for row in WEBHOOKS.iter().filter(|row| is_payment(row)) {
            let payment = match row.action {
                Action::Payment(Payments::Mexico) => Envelope {
                    event_type: Some(row.kind.to_owned()),
                    event_code: Some("payment_request_failed".to_owned()),
                    ..Envelope::default()
                },
                _ => Envelope {
                    object_id: Some("d2e40773-19f6-48d1-93c3-3590ec0c74df".to_owned()),
                    link_id: None,
                    ..envelope(row.kind, row.code)
                },
            };
            assert_eq!(action_for(&payment), Some(row.action), "{}", row.kind);
        }
    }

    #[test]
    fn the_path_follows_the_country_of_the_institution() {
        let invoices = resource_named("invoices").expect("a resource");
        let path = |institution| invoices.path_in(country_of(institution), "");
        assert_eq!(path("tatooine_mx_fiscal"), "/api/invoices/");
        assert_eq!(path("sii_cl_fiscal"), "/api/cl/invoices/");
        assert_eq!(path("some_thing_else"), "/api/invoices/");
        assert_eq!(path(""), "/api/invoices/");
    }
}
