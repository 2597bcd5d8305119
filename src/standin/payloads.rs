//! Webhooks as Belvo publishes them, for the seven banking resources, with a link and counts filled in. Texts only: it
//! does not know how they are sent or what becomes of them.

/// A resource that Belvo announces by webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `ACCOUNTS`
    Accounts,
    /// `OWNERS`
    Owners,
    /// `TRANSACTIONS`
    Transactions,
    /// `BILLS`
    Bills,
    /// `INVESTMENTS`
    Investments,
    /// `INVESTMENT_TRANSACTIONS`
    InvestmentTransactions,
    /// `BALANCES`
    Balances,
}

impl Resource {
    /// All seven, in the order Belvo usually has them ready.
    pub const ALL: [Self; 7] = [
        Self::Accounts,
        Self::Owners,
        Self::Transactions,
        Self::Bills,
        Self::Investments,
        Self::InvestmentTransactions,
        Self::Balances,
    ];

    /// The name in lower case, as it is in webhook codes and in `data`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Owners => "owners",
            Self::Transactions => "transactions",
            Self::Bills => "bills",
            Self::Investments => "investments",
            Self::InvestmentTransactions => "investment_transactions",
            Self::Balances => "balances",
        }
    }

    /// The path of the list that a webhook about it means.
    pub fn path(self) -> &'static str {
        match self {
            Self::Accounts => "/api/accounts/",
            Self::Owners => "/api/owners/",
            Self::Transactions => "/api/transactions/",
            Self::Bills => "/api/bills/",
            Self::Investments => "/api/br/investments/",
            Self::InvestmentTransactions => "/api/br/investment-transactions/",
            Self::Balances => "/api/br/balances/",
        }
    }

    /// The `webhook_type` of its `new_*_available`: Belvo's page shows investments under `ACCOUNTS`.
    fn type_of_new(self) -> String {
        match self {
            Self::Investments => "ACCOUNTS".to_owned(),
            other => other.name().to_uppercase(),
        }
    }
}

/// The webhook after a link was created: all of `resource` can be read. A new `webhook_id` each time.
pub fn historical_update(resource: Resource, link: &str, total: usize) -> String {
    let kind = resource.name().to_uppercase();
    let name = resource.name();
    match resource {
        Resource::Transactions | Resource::InvestmentTransactions => {
            let inflow = total / 2;
            let outflow = total - inflow;
            let data = format!(
                r#"{{"total_transactions":{total},"total_inflow_transactions":{inflow},"total_outflow_transactions":{outflow},"first_transaction_date":"2026-01-03","last_transaction_date":"2026-11-20"}}"#
            );
            full(&kind, "historical_update", "historical_update", link, &data)
        }
        Resource::Balances => {
            let data = format!(
                r#"{{"total_balances":{total},"first_balance_date":"2026-01-03","last_balance_date":"2026-11-20"}}"#
            );
            old(&kind, "historical_update", link, &data)
        }
        _ => {
            let data = format!(r#"{{"total_{name}":{total}}}"#);
            full(&kind, "historical_update", "historical_update", link, &data)
        }
    }
}

/// The webhook after a refresh: there is something new or changed in `resource`. A new `webhook_id` each time.
pub fn new_available(resource: Resource, link: &str, new: usize) -> String {
    let name = resource.name();
    let code = format!("new_{name}_available");
    let data = format!(r#"{{"new_{name}":{new}}}"#);
    match resource {
        Resource::Balances => old("BALANCES", &code, link, &data),
        _ => full(
            &resource.type_of_new(),
            "recurrent_update",
            &code,
            link,
            &data,
        ),
    }
}

/// The present form of a webhook.
fn full(kind: &str, process: &str, code: &str, link: &str, data: &str) -> String {
    let (webhook_id, request_id) = (hex_id(), dashed_id());
    format!(
        r#"{{"webhook_id":"{webhook_id}","webhook_type":"{kind}","process_type":"{process}","webhook_code":"{code}","link_id":"{link}","request_id":"{request_id}","external_id":"your_external_id","data":{data}}}"#
    )
}

/// The older form, without `process_type`, `request_id` and `external_id`.
fn old(kind: &str, code: &str, link: &str, data: &str) -> String {
    let webhook_id = hex_id();
    format!(
        r#"{{"webhook_id":"{webhook_id}","webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}","data":{data}}}"#
    )
}

fn hex_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn dashed_id() -> String {
    super::objects::uuid(&mut fastrand::Rng::new())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

    #[test]
    fn every_payload_is_json_about_its_link() {
        for resource in Resource::ALL {
            for text in [
                historical_update(resource, LINK, 5),
                new_available(resource, LINK, 5),
            ] {
                let payload: Value = serde_json::from_str(&text).expect("a payload is JSON");
                assert_eq!(payload["link_id"], LINK, "{text}");
                assert_eq!(
                    payload["webhook_id"].as_str().map(str::len),
                    Some(32),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn new_investments_come_under_the_type_that_belvo_publishes() {
        let text = new_available(Resource::Investments, LINK, 1);
        assert!(text.contains(r#""webhook_type":"ACCOUNTS""#));
        assert!(text.contains(r#""webhook_code":"new_investments_available""#));
    }
}
