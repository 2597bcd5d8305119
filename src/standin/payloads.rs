//! Webhooks as Belvo publishes them, with a link, counts and ids filled in. Texts only: it does not know how they are
//! sent or what becomes of them.

use std::fmt::Display;

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
    /// `EXCHANGES`
    Exchanges,
    /// `INCOMES`
    Incomes,
    /// `RECURRING_EXPENSES`
    RecurringExpenses,
    /// `RISK_INSIGHTS`
    RiskInsights,
    /// `EMPLOYMENT_RECORDS`
    EmploymentRecords,
    /// `CURRENT_EMPLOYMENTS`
    CurrentEmployments,
    /// `EMPLOYMENT_METRICS`
    EmploymentMetrics,
    /// `EMPLOYMENTS` of Brazil
    Employments,
    /// `INVOICES` of Mexico
    Invoices,
    /// `TAX_RETURNS`
    TaxReturns,
    /// `TAX_STATUS` of Mexico
    TaxStatus,
    /// `TAX_COMPLIANCE_STATUS`
    TaxComplianceStatus,
    /// `TAX_RETENTIONS`
    TaxRetentions,
    /// `FINANCIAL_STATEMENTS`
    FinancialStatements,
    /// `INVOICES` of Chile
    InvoicesChile,
    /// `TAX_STATUS` of Chile
    TaxStatusChile,
    /// `DEBT_REPORTS`
    DebtReports,
}

impl Resource {
    /// The seven of a bank, in the order Belvo usually has them ready.
    pub const BANKING: [Self; 7] = [
        Self::Accounts,
        Self::Owners,
        Self::Transactions,
        Self::Bills,
        Self::Investments,
        Self::InvestmentTransactions,
        Self::Balances,
    ];

    /// All of them, in the order of Belvo's API description.
    pub const ALL: [Self; 24] = [
        Self::Accounts,
        Self::Owners,
        Self::Transactions,
        Self::Bills,
        Self::Investments,
        Self::InvestmentTransactions,
        Self::Balances,
        Self::Exchanges,
        Self::Incomes,
        Self::RecurringExpenses,
        Self::RiskInsights,
        Self::EmploymentRecords,
        Self::CurrentEmployments,
        Self::EmploymentMetrics,
        Self::Employments,
        Self::Invoices,
        Self::TaxReturns,
        Self::TaxStatus,
        Self::TaxComplianceStatus,
        Self::TaxRetentions,
        Self::FinancialStatements,
        Self::InvoicesChile,
        Self::TaxStatusChile,
        Self::DebtReports,
    ];

    /// The name in lower case, as it is in webhook codes and in `data`. It does not tell countries apart: no webhook does.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Owners => "owners",
            Self::Transactions => "transactions",
            Self::Bills => "bills",
            Self::Investments => "investments",
            Self::InvestmentTransactions => "investment_transactions",
            Self::Balances => "balances",
            Self::Exchanges => "exchanges",
            Self::Incomes => "incomes",
            Self::RecurringExpenses => "recurring_expenses",
            Self::RiskInsights => "risk_insights",
            Self::EmploymentRecords => "employment_records",
            Self::CurrentEmployments => "current_employments",
            Self::EmploymentMetrics => "employment_metrics",
            Self::Employments => "employments",
            Self::Invoices | Self::InvoicesChile => "invoices",
            Self::TaxReturns => "tax_returns",
            Self::TaxStatus | Self::TaxStatusChile => "tax_status",
            Self::TaxComplianceStatus => "tax_compliance_status",
            Self::TaxRetentions => "tax_retentions",
            Self::FinancialStatements => "financial_statements",
            Self::DebtReports => "debt_reports",
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
            Self::Exchanges => "/api/br/exchanges/",
            Self::Incomes => "/api/incomes/",
            Self::RecurringExpenses => "/api/recurring-expenses/",
            Self::RiskInsights => "/api/risk-insights/",
            Self::EmploymentRecords => "/api/employment-records/",
            Self::CurrentEmployments => "/api/mx/current-employments/",
            Self::EmploymentMetrics => "/api/employment-metrics/",
            Self::Employments => "/api/br/employments/",
            Self::Invoices => "/api/invoices/",
            Self::TaxReturns => "/api/tax-returns/",
            Self::TaxStatus => "/api/tax-status/",
            Self::TaxComplianceStatus => "/api/tax-compliance-status/",
            Self::TaxRetentions => "/api/tax-retentions/",
            Self::FinancialStatements => "/api/financial-statements/",
            Self::InvoicesChile => "/api/cl/invoices/",
            Self::TaxStatusChile => "/api/cl/tax-status/",
            Self::DebtReports => "/api/cl/debt-reports/",
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
    let (kind, code) = (resource.name().to_uppercase(), "historical_update");
    let data = historical_data(resource, total);
    match resource {
        Resource::Balances => old(&kind, code, link, &data),
        _ => full(&kind, code, code, link, &data),
    }
}

fn historical_data(resource: Resource, total: usize) -> String {
    let name = resource.name();
    match resource {
        Resource::Transactions | Resource::InvestmentTransactions => {
            let inflow = total / 2;
            let outflow = total - inflow;
            format!(
                r#"{{"total_transactions":{total},"total_inflow_transactions":{inflow},"total_outflow_transactions":{outflow},"first_transaction_date":"2026-01-03","last_transaction_date":"2026-11-20"}}"#
            )
        }
        Resource::Balances => dated("balance", name, total),
        Resource::TaxRetentions => dated("tax_retention", name, total),
        Resource::Incomes => {
            format!(r#"{{"total_incomes":1,"number_of_income_streams":{total}}}"#)
        }
        Resource::TaxReturns => format!(
            r#"{{"type":"yearly","total_tax_returns":{total},"first_tax_return_year":2021,"last_tax_return_year":2025}}"#
        ),
        Resource::TaxStatus | Resource::TaxStatusChile => {
            format!(r#"{{"total_tax_status":{total},"last_status_change_date":"2026-01-03"}}"#)
        }
        Resource::EmploymentRecords => {
            format!(r#"{{"total_employment_record_profiles":{total}}}"#)
        }
        _ => format!(r#"{{"total_{name}":{total}}}"#),
    }
}

fn dated(one: &str, name: &str, total: usize) -> String {
    format!(
        r#"{{"total_{name}":{total},"first_{one}_date":"2026-01-03","last_{one}_date":"2026-11-20"}}"#
    )
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

/// The webhook about transactions that Belvo took out, usually because it had them twice.
pub fn transactions_deleted<I: Display>(link: &str, ids: &[I]) -> String {
    about_transactions("deleted", link, ids)
}

/// The webhook about transactions that changed.
pub fn transactions_updated<I: Display>(link: &str, ids: &[I]) -> String {
    about_transactions("updated", link, ids)
}

fn about_transactions<I: Display>(what: &str, link: &str, ids: &[I]) -> String {
    let data = format!(
        r#"{{"count":{},"{what}_transactions":[{}]}}"#,
        ids.len(),
        strings(ids)
    );
    bare("TRANSACTIONS", &format!("transactions_{what}"), link, &data)
}

/// The webhook about a link itself: `invalid_credentials`, `token_required`, `link_deleted`, ...
pub fn link_event(link: &str, code: &str) -> String {
    let data = match code {
        "invalid_credentials" => {
            r#"{"error_code":"login_error","error_message":"Invalid credentials provided to login to the institution","status":400}"#
        }
        "token_required" => {
            r#"{"error_code":"token_required","error_message":"A MFA token is required by the institution to login","status":428}"#
        }
        _ => return bare("LINK", code, link, "{}"),
    };
    full("LINK", "recurrent_update", code, link, data)
}

/// The webhook about the consent of a link: `openfinance_consent_expired`, `consent_revoked`, ... Those about its end
/// say how to renew it; the due date is sent when there is one.
pub fn consent_event(link: &str, consent: &str, code: &str, due_date: Option<&str>) -> String {
    let mut data = format!(r#""consent_id":"{consent}""#);
    if let Some(at) = due_date {
        data += &format!(r#","consent_due_date":"{at}""#);
    }
    if code.ends_with("_expire") || code.ends_with("_expired") {
        data += r#","action":"renew","institution":"ofmockbank_br_retail","institution_display_name":"OF Mockbank","institution_icon_logo":"https://logo.com""#;
    }
    // The older name still comes without it.
    let process = match code {
        "consent_expired" => "",
        _ => r#""process_type":"recurrent_update","#,
    };
    let webhook_id = hex_id();
    format!(
        r#"{{"webhook_id":"{webhook_id}","webhook_type":"CONSENT",{process}"webhook_code":"{code}","link_id":"{link}","external_id":null,"data":{{{data}}}}}"#
    )
}

/// The webhook about what changed in employment records: `EMPLOYED`, `SALARY_INCREASED`, ...
pub fn employment_changes(link: &str, changes: &[&str]) -> String {
    let data = format!(r#"{{"employment_changes":[{}]}}"#, strings(changes));
    full(
        "EMPLOYMENT_RECORDS",
        "recurrent_update",
        "employment_changes",
        link,
        &data,
    )
}

fn strings<I: Display>(items: &[I]) -> String {
    let quoted = items.iter().map(|item| format!("\"{item}\""));
    quoted.collect::<Vec<_>>().join(",")
}

/// The present form of a webhook.
fn full(kind: &str, process: &str, code: &str, link: &str, data: &str) -> String {
    let (webhook_id, request_id) = (hex_id(), dashed_id());
    format!(
        r#"{{"webhook_id":"{webhook_id}","webhook_type":"{kind}","process_type":"{process}","webhook_code":"{code}","link_id":"{link}","request_id":"{request_id}","external_id":"your_external_id","data":{data}}}"#
    )
}

/// The form of what no page shows whole: no reason, and no id of ours.
fn bare(kind: &str, code: &str, link: &str, data: &str) -> String {
    let (webhook_id, request_id) = (hex_id(), dashed_id());
    format!(
        r#"{{"webhook_id":"{webhook_id}","webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}","request_id":"{request_id}","external_id":null,"data":{data}}}"#
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
    const CONSENT: &str = "9e763d19-15a4-410c-a106-18c0f60ca5eb";

    fn all() -> Vec<String> {
        let of_resources = Resource::ALL.iter().flat_map(|resource| {
            [
                historical_update(*resource, LINK, 5),
                new_available(*resource, LINK, 5),
            ]
        });
        let others = [
            transactions_deleted(LINK, &["a", "b"]),
            transactions_updated::<String>(LINK, &[]),
            link_event(LINK, "invalid_credentials"),
            link_event(LINK, "link_deleted"),
            consent_event(LINK, CONSENT, "openfinance_consent_expired", None),
            employment_changes(LINK, &["EMPLOYED"]),
        ];
        of_resources.chain(others).collect()
    }

    #[test]
    fn every_payload_is_json_about_its_link() {
        for text in all() {
            let payload: Value = serde_json::from_str(&text).expect("a payload is JSON");
            assert_eq!(payload["link_id"], LINK, "{text}");
            assert_eq!(
                payload["webhook_id"].as_str().map(str::len),
                Some(32),
                "{text}"
            );
            assert!(payload["data"].is_object(), "{text}");
        }
    }

    #[test]
    fn new_investments_come_under_the_type_that_belvo_publishes() {
        let text = new_available(Resource::Investments, LINK, 1);
        assert!(text.contains(r#""webhook_type":"ACCOUNTS""#));
        assert!(text.contains(r#""webhook_code":"new_investments_available""#));
    }

    #[test]
    fn deleted_transactions_are_counted_and_named() {
        let text = transactions_deleted(LINK, &["a", "b"]);
        assert!(text.contains(r#""data":{"count":2,"deleted_transactions":["a","b"]}"#));
    }

    #[test]
    fn a_consent_names_its_due_date_when_it_has_one() {
        let about = |due| consent_event(LINK, CONSENT, "openfinance_consent_about_to_expire", due);
        let due = r#""consent_due_date":"2026-12-26T10:45:58.000Z""#;
        assert!(about(Some("2026-12-26T10:45:58.000Z")).contains(due));
        assert!(!about(None).contains("consent_due_date"));
    }
}
