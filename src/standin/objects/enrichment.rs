//! Incomes, recurring expenses and risk insights: what Belvo works out from accounts and transactions.

use super::Household;

/// `/api/incomes/`
const INCOME: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","income_streams":[{"account_id":"$account_id",
"income_type":"SALARY","frequency":"MONTHLY","monthly_average":$amount,"monthly_median":$amount,
"average_income_amount":$amount,"last_income_amount":$amount,"currency":"BRL",
"last_income_description":"SAL\u00c1RIO","last_income_date":"$date","stability":$amount,"regularity":$amount,
"trend":$amount,"lookback_periods":9,"full_periods":9,"periods_with_income":9,"number_of_incomes":9,
"confidence":"HIGH"}],"income_source_type":"BANK","first_transaction_date":"$date",
"last_transaction_date":"$date","best_working_day_to_charge":22,"good_working_days_to_charge":[1],
"number_of_income_streams":1,"monthly_average":$amount,"monthly_average_regular":$amount,
"monthly_average_irregular":$amount,"monthly_average_low_confidence":$amount,
"monthly_average_medium_confidence":$amount,"monthly_average_high_confidence":$amount,
"total_income_amount":$amount,"total_regular_income_amount":$amount,"total_irregular_income_amount":$amount,
"total_low_confidence":$amount,"total_medium_confidence":$amount,"total_high_confidence":$amount}
"#;

/// `/api/recurring-expenses/`
const RECURRING_EXPENSE: &str = r#"
{"id":"$id","account":$account,"name":"Exemplo","transactions":[{"amount":$amount,
"description":"VIDEO EXEMPLO\/MAR","value_date":"$date"}],"frequency":"MONTHLY",
"average_transaction_amount":$amount,"median_transaction_amount":$amount,"days_since_last_transaction":5,
"category":"Online Platforms & Leisure","payment_type":"SUBSCRIPTION"}
"#;

/// `/api/risk-insights/`, whose metrics repeat for each of [`WINDOWS`].
const RISK_INSIGHT: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","accounts":["$account_id"],
"assets_metrics":{"institutions":["$institution"],"num_assets_accounts":1,"num_checking_accounts":1,
"num_savings_accounts":1,"checking_accounts_balance":$amount,"savings_accounts_balance":$amount},
"credit_cards_metrics":{"num_accounts":2,"sum_credit_limit":$amount,"sum_credit_used":$amount,
"credit_card_limit_utilization":$amount},"loans_metrics":{"num_accounts":1,"sum_loans_principal":$amount,
"sum_loans_outstanding_principal":$amount,"sum_loans_monthly_payment":$amount,"loan_limit_utilization":$amount,
"overdraft_limit":$amount,"overdraft_limit_utilization":$amount},
"balances_metrics":{"closing_balance":$amount,$balances,"balance_threshold_x":1000},
"transactions_metrics":{$transactions,"days_since_last_transaction":0,"days_since_last_incoming_transaction":0,
"days_since_last_outgoing_transaction":0,"days_history":365},"cashflow_metrics":{$cashflow},
"category_metrics":[{"category":"Income & Payments","subcategory":"Freelance","net_amount_3m":$amount,
"category_inflow_ratio_3m":$amount,"trend_3m":$amount}]}
"#;

/// How far back a metric looks.
const WINDOWS: &[&str] = &["3d", "1w", "1m", "3m", "6m", "12m"];

/// Metrics that are amounts or means, and those that are counts.
type Metrics = (&'static [&'static str], &'static [&'static str]);

const BALANCES: Metrics = (
    &[
        "min_balance",
        "mean_balance",
        "max_balance",
        "std_balance",
        "balance_trend",
    ],
    &[
        "days_balance_below_0",
        "days_balance_below_mean",
        "days_balance_below_x",
    ],
);

const TRANSACTIONS: Metrics = (
    &[
        "mean_num_transactions",
        "mean_num_incoming_transactions",
        "sum_incoming_amount",
        "max_incoming_amount",
        "mean_incoming_amount",
        "mean_num_outgoing_transactions",
        "sum_outgoing_amount",
        "max_outgoing_amount",
        "mean_outgoing_amount",
    ],
    &[
        "num_transactions",
        "max_num_transactions",
        "num_incoming_transactions",
        "max_num_incoming_transactions",
        "num_outgoing_transactions",
        "max_num_outgoing_transactions",
        "days_without_transactions",
    ],
);

const CASHFLOW: Metrics = (
    &[
        "max_positive",
        "max_negative",
        "mean_positive",
        "mean_negative",
        "sum_positive",
        "sum_positive_trend",
        "sum_negative",
        "sum_negative_trend",
        "positive_to_negative_ratio",
        "net_cashflow",
        "net_cashflow_trend",
    ],
    &[],
);

impl Household {
    /// `/api/incomes/`
    pub fn incomes(&mut self, count: usize) -> Vec<String> {
        self.many(INCOME, count)
    }

    /// `/api/recurring-expenses/`
    pub fn recurring_expenses(&mut self, count: usize) -> Vec<String> {
        self.many(RECURRING_EXPENSE, count)
    }

    /// `/api/risk-insights/`
    pub fn risk_insights(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.risk_insight()).collect()
    }

    fn risk_insight(&mut self) -> String {
        let balances = self.metrics(BALANCES);
        let transactions = self.metrics(TRANSACTIONS);
        let cashflow = self.metrics(CASHFLOW);
        let own = [
            ("balances", balances.as_str()),
            ("transactions", &transactions),
            ("cashflow", &cashflow),
        ];
        self.filled(RISK_INSIGHT, &own)
    }

    fn metrics(&mut self, (amounts, counts): Metrics) -> String {
        let mut members = Vec::new();
        for window in WINDOWS {
            let amounts = amounts
                .iter()
                .map(|name| format!(r#""{name}_{window}":{}"#, self.amount()));
            members.extend(amounts);
            members.extend(counts.iter().map(|name| format!(r#""{name}_{window}":7"#)));
        }
        members.join(",")
    }
}
