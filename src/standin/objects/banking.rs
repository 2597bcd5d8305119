//! Accounts, owners, transactions, bills, balances, investments and exchanges of a bank of Open Finance Brazil.

use super::Household;

/// Descriptions with everything JSON lets one write in two ways.
const DESCRIPTIONS: &[&str] = &[
    r"PIX ENVIADO PADARIA S\u00c3O JO\u00c3O",
    "Mensalidade escolar – março",
    r#"TED \"ALUGUEL\" apto\/12"#,
    r"SUPERMERCADO\tDIA",
    "🚌 Bilhete único",
];

/// `/api/accounts/`
const ACCOUNT: &str = r#"
{"id":"$id","link":"$link","institution":{"name":"$institution","type":"bank"},"collected_at":"$time",
"created_at":"$time","last_accessed_at":null,"category":"$category","balance_type":"ASSET",
"overdraft":{"arranged":5000.5,"used":0,"unarranged":300.10},"type":"STANDARD_NACIONAL","subtype":"INDIVIDUAL",
"name":"$name","number":"$number","agency":"6272","check_digit":"7","balance":{"current":$amount,"available":$amount,
"blocked":60.32,"automatically_invested":131.5},"currency":"BRL","public_identification_name":"AGENCY/ACCOUNT",
"public_identification_value":"6272/$number-7","internal_identification":"$41","credit_data":null,"loan_data":null,
"funds_data":null}
"#;

/// `/api/owners/`
const OWNER: &str = r#"
{"id":"$id","link":"$link","internal_identification":"7e5838e4","collected_at":"$time","created_at":"$time",
"display_name":"Jo\u00e3o Exemplo da Silva","social_name":null,"birth_date":"1988-07-15",
"marital_status":"SINGLE","marital_status_additional_info":null,"gender":"OTHER",
"companies_id":["60500998000135"],"is_local_resident":true,"document_id":{"document_type":"CPF",
"document_number":"$11"},"additional_documents":[],"nationalities":null,"email":"joao@example.com",
"emails":[{"is_main":true,"email":"joao@example.com"}],"address":"Rua do Exemplo, 12","addresses":[],
"phone_number":"$8","phone_numbers":[{"is_main":true,"type":"MOBILE","additional_info":null,"number":"$8",
"country_code":"55","area_code":"21","extension":null}],"filiations":[],"financial_profile":null,
"financial_relation":null}
"#;

/// `/api/owners/`: a company.
const COMPANY: &str = r#"
{"id":"$id","link":"$link","internal_identification":"$18","collected_at":"$time","created_at":"$time",
"company_name":"Exemplo Com\u00e9rcio Ltda","trade_name":"Exemplo","incorporation_date":"$date",
"companies_id":["60500998000135"],"document_id":{"document_type":"CPF","document_number":"$11"},
"additional_documents":[],"email":"ltda@example.com","emails":[{"is_main":true,"email":"ltda@example.com"}],
"address":"Rua do Exemplo, 12","addresses":[],"phone_number":"$8","phone_numbers":[],
"parties":[{"person_type":"INDIVIDUAL","type":"MEMBER","display_name":"Maria Exemplo","social_name":null,
"company_name":null,"trade_name":null,"start_date":"$date","percentage_type":$amount,"document_type":"CPF",
"document_number":"$11","document_issue_date":"$date","document_expiration_date":"$date",
"document_country":"BRA","document_additional_info":null}],"financial_profile":null,"financial_relation":null}
"#;

/// `/api/owners/`: of an institution outside Open Finance Brazil.
const FORMER_OWNER: &str = r#"
{"id":"$id","link":"$link","internal_identification":"$18","collected_at":"$time","created_at":"$time",
"display_name":"Mar\u00eda Ejemplo Soto","email":"maria@example.com","phone_number":"$8",
"address":"Calle Ejemplo 123","document_id":{"document_type":"CPF","document_number":"$11"},
"business_name":null,"first_name":"Mar\u00eda","last_name":"Ejemplo","second_last_name":"Soto"}
"#;

/// `/api/transactions/`
const TRANSACTION: &str = r#"
{"id":"$id","internal_identification":"$24","account":$account,"collected_at":"$time","created_at":"$time",
"value_date":"$date","transacted_at":"$time","accounting_date":null,"inferred_accounting_date":"$date",
"amount":$amount,"local_currency_amount":null,"balance":$amount,"currency":"BRL","description":"$description",
"observations":null,"merchant":null,"category":"Transfers","subcategory":null,"reference":null,"type":"$kind",
"status":"PROCESSED","credit_card_data":null,"counterparty":{"type":"COMPANY",
"document_number":"60500998000135","clearing_code":"001","agency":"6272","check_digit":"7","number":"24550245"},
"loan_data":null,"payment_type":null,"operation_type":"PIX","operation_type_additional_info":null,"mcc":null}
"#;

/// `/api/bills/`
const BILL: &str = r#"
{ "id":"$id", "created_at":"$time", "collected_at":"$time", "account":$account,
"internal_identification":"$41", "bill_name":"bill-$month", "due_date":"$date", "currency":"BRL", "total_amount":$amount, "minimum_amount":$amount, "is_installment":false,
"finance_charges":[{"type":"LATE_FEE","additional_info":null,"currency":"BRL","amount":91.890}],
"payments":[{"type":"FULL","payment_date":"$date","payment_mode":"PIX","currency":"BRL","amount":500.15}] }
"#;

/// `/api/br/balances/`
const BALANCE: &str = r#"
{"id":"$id","link":"$link","account_id":"$account_id","account_internal_identification":"$41",
"collected_at":"$time","created_at":"$time","last_updated_at":"$time","currency":"BRL","available":$amount,
"blocked":0.0,"automatically_invested":1000.020}
"#;

/// `/api/br/investments/`
const INVESTMENT: &str = r#"
{"id":"$id","type":"FIXED_INCOME_BANKING","issuer_id_number":"$14","isin_number":"BRCST4CTF00$number",
"currency":"BRL","product_name":"CDB EXEMPLO $number","is_tax_exempt":false,"clearing_code":"CDB421GPXXX",
"due_date":"2028-01-01","issue_date":"2026-01-01","purchase_date":"2026-01-02","grace_period_date":null,
"issue_unit_price":1000,"balance":{"reference_date":"$time","gross_value":$amount,"blocked_amount":0,
"quantity":100.0000001,"gross_unit_price":10,"net_value":$amount,"withheld_amount":null,"transaction_fee":null,
"purchase_unit_price":10,"pre_fixed_rate":0.05,"post_fixed_rate":null,"penalty_fee":null,
"late_payment_fee":null,"closing_price":null,"unit_price_factor":1},"remuneration":{"pre_fixed_rate":0.05,
"post_fixed_rate":1,"rate_type":"LINEAR","rate_periodicity":"MENSAL","calculation_base":"DIAS_CORRIDOS",
"indexer":"CDI","indexer_additional_info":null},"classification_details":null,
"voucher_payment_details":{"is_voucher_payment":false,"periodicity":null,"periodicity_additional_info":null},
"debtor_details":null}
"#;

/// `/api/br/investment-transactions/`
const INVESTMENT_TRANSACTION: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time","investment":$investment,
"internal_identification":"$41","value_date":"$date","gross_value":$amount,"net_value":$amount,"value":$amount,
"unit_price":3,"price_factor":1,"transaction_tax":0,"income_tax":0.00,"quantity":20,"type":"INFLOW",
"subtype":"APLICACAO","subtype_additional_info":null,"indexer_percentage":0,"rate":0,"exit_fee":0,
"broker_note_details":null}
"#;

/// `/api/br/exchanges/`
const EXCHANGE: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","collected_at":"$time","operation_identifier":"$14",
"operation_number":"$12","operation_type":"COMPRA","operation_requested_at":"$time",
"authorized_institution_identifier":11225860000140,"authorized_institution_name":"CORRETORA EXEMPLO",
"intermediary_institution_identifier":11225860000140,"intermediary_institution_name":"CORRETORA EXEMPLO",
"operation_due_date":"$date","local_operation_tax_amount":$amount,"local_operation_tax_currency":"BRL",
"local_operation_value_amount":$amount,"local_operation_value_currency":"BRL",
"foreign_operation_value_amount":$amount,"foreign_operation_value_currency":"USD",
"operation_outstanding_balance_amount":$amount,"operation_outstanding_balance_currency":"USD",
"tev_amount_amount":null,"tev_amount_currency":null,"local_currency_advance_percentage":$amount,
"settlement_method":"CARTA_CREDITO_A_PRAZO","operation_category_code":"90302"}
"#;

/// `/api/br/exchanges/{id}/history/`
const EXCHANGE_EVENT: &str = r#"
{"id":"$id","link":"$link","exchange_id":"$exchange","created_at":"$time","collected_at":"$time",
"operation_identifier":"$14","event_sequence_number":"493874649457","event_type":2,"event_created_at":"$time",
"operation_due_date":"$date","local_operation_tax_amount":$amount,"local_operation_tax_currency":"BRL",
"local_operation_value_amount":$amount,"local_operation_value_currency":"BRL",
"foreign_operation_value_amount":$amount,"foreign_operation_value_currency":"USD",
"operation_outstanding_balance_amount":$amount,"operation_outstanding_balance_currency":"USD",
"tev_amount_amount":null,"tev_amount_currency":null,"local_currency_advance_percentage":$amount,
"settlement_method":"CARTA_CREDITO_A_PRAZO","operation_category_code":"90302",
"foreign_partie_relationship_code":null,"foreign_partie_name":null,"foreign_partie_country_code":null}
"#;

impl Household {
    /// `/api/accounts/`
    pub fn accounts(&self) -> Vec<String> {
        self.accounts.iter().map(|(_, text)| text.clone()).collect()
    }

    /// `/api/owners/`
    pub fn owners(&mut self) -> Vec<String> {
        vec![self.filled(OWNER, &[])]
    }

    /// `/api/owners/` in its other two shapes: a company, and an owner as institutions outside Open Finance Brazil have it.
    pub fn other_owners(&mut self) -> Vec<String> {
        vec![self.filled(COMPANY, &[]), self.filled(FORMER_OWNER, &[])]
    }

    /// `/api/transactions/` whose account is null, so that nothing in them names a link.
    pub fn transactions_without_account(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.transaction(&[("account", "null")]))
            .collect()
    }

    /// `/api/transactions/`, each with its whole account in it, as Belvo sends them.
    pub fn transactions(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.transaction(&[])).collect()
    }

    /// `/api/bills/`
    pub fn bills(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|month| self.filled(BILL, &[("month", &month.to_string())]))
            .collect()
    }

    /// `/api/br/balances/`, one for each account.
    pub fn balances(&mut self) -> Vec<String> {
        let accounts: Vec<_> = self.accounts.iter().map(|(id, _)| id.clone()).collect();
        accounts
            .iter()
            .map(|id| self.filled(BALANCE, &[("account_id", id)]))
            .collect()
    }

    /// `/api/br/investments/`
    pub fn investments(&self) -> Vec<String> {
        self.investments.clone()
    }

    /// `/api/br/investment-transactions/`
    pub fn investment_transactions(&mut self, count: usize) -> Vec<String> {
        self.many(INVESTMENT_TRANSACTION, count)
    }

    /// `/api/br/exchanges/`
    pub fn exchanges(&mut self, count: usize) -> Vec<String> {
        self.many(EXCHANGE, count)
    }

    /// `/api/br/exchanges/{id}/history/` of the exchange with this id.
    pub fn exchange_history(&mut self, exchange: &str, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.filled(EXCHANGE_EVENT, &[("exchange", exchange)]))
            .collect()
    }

    /// An account and its id.
    pub(super) fn account(&mut self, number: usize) -> (String, String) {
        let (category, name) = match number % 2 {
            0 => ("CHECKING_ACCOUNT", "Conta corrente"),
            _ => ("SAVINGS_ACCOUNT", "Conta poupan\\u00e7a"),
        };
        let (id, number) = (self.id(), self.digits(7));
        let own = [
            ("id", id.as_str()),
            ("category", category),
            ("name", name),
            ("number", &number),
        ];
        let text = self.filled(ACCOUNT, &own);
        (id, text)
    }

    pub(super) fn investment(&mut self, number: usize) -> String {
        self.filled(INVESTMENT, &[("number", &number.to_string())])
    }

    fn transaction(&mut self, own: &[(&str, &str)]) -> String {
        let kind = if self.rng.bool() { "INFLOW" } else { "OUTFLOW" };
        let description = DESCRIPTIONS[self.rng.usize(..DESCRIPTIONS.len())];
        let own = [own, &[("kind", kind), ("description", description)]].concat();
        self.filled(TRANSACTION, &own)
    }
}
