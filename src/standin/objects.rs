//! Made-up objects of Open Finance Brazil with the field names of Belvo's API description, the same for the same seed.
//! They are JSON texts with what a careless reader breaks in them: amounts that no float holds, both forms of a
//! timestamp, escapes, uneven white space. No person in them exists.

use fastrand::Rng;

/// Amounts in turn: plain ones, and those that change on the way through a binary float or a tidy printer.
const AMOUNTS: &[&str] = &[
    "2145.45",
    "12345678901234.56",
    "0.1",
    "1e-7",
    "100.00",
    "9007199254740993",
    "-0.0",
    "3E+2",
    "19.90",
];

/// Descriptions with everything JSON lets one write in two ways.
const DESCRIPTIONS: &[&str] = &[
    r"PIX ENVIADO PADARIA S\u00c3O JO\u00c3O",
    "Mensalidade escolar – março",
    r#"TED \"ALUGUEL\" apto\/12"#,
    r"SUPERMERCADO\tDIA",
    "🚌 Bilhete único",
];

/// One link with the objects that are made for it; accounts and investments first, the rest refers to them.
#[derive(Debug)]
pub struct Household {
    link: String,
    rng: Rng,
    made: usize,
    accounts: Vec<(String, String)>,
    investments: Vec<String>,
}

impl Household {
    /// A link of its own, with `accounts` accounts and two investments.
    pub fn new(seed: u64, accounts: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = uuid(&mut rng);
        let mut house = Self {
            link,
            rng,
            made: 0,
            accounts: Vec::new(),
            investments: Vec::new(),
        };
        house.accounts = (0..accounts.max(1))
            .map(|number| house.account(number))
            .collect();
        house.investments = (0..2).map(|number| house.investment(number)).collect();
        house
    }

    /// The link's id.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// `/api/accounts/`
    pub fn accounts(&self) -> Vec<String> {
        self.accounts.iter().map(|(_, text)| text.clone()).collect()
    }

    /// `/api/br/investments/`
    pub fn investments(&self) -> Vec<String> {
        self.investments.clone()
    }

    /// `/api/owners/`
    pub fn owners(&mut self) -> Vec<String> {
        vec![self.owner()]
    }

    /// `/api/transactions/`, each with its whole account in it, as Belvo sends them.
    pub fn transactions(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.transaction()).collect()
    }

    /// `/api/bills/`
    pub fn bills(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|month| self.bill(month)).collect()
    }

    /// `/api/br/balances/`, one for each account.
    pub fn balances(&mut self) -> Vec<String> {
        (0..self.accounts.len())
            .map(|number| self.balance(number))
            .collect()
    }

    /// `/api/br/investment-transactions/`
    pub fn investment_transactions(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.investment_transaction()).collect()
    }

    fn id(&mut self) -> String {
        uuid(&mut self.rng)
    }

    fn amount(&mut self) -> &'static str {
        self.made += 1;
        AMOUNTS[self.made % AMOUNTS.len()]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| self.rng.digit(10)).collect()
    }

    fn date(&mut self) -> String {
        let (month, day) = (self.rng.u8(1..=11), self.rng.u8(1..=28));
        format!("2026-{month:02}-{day:02}")
    }

    /// Three to six digits and either way to say UTC: Belvo documents both.
    fn time(&mut self) -> String {
        let (date, hour, minute) = (self.date(), self.rng.u8(..24), self.rng.u8(..60));
        let fraction = self.rng.u32(..1_000_000);
        match fraction % 3 {
            0 => format!("{date}T{hour:02}:{minute:02}:50.{fraction:06}Z"),
            1 => format!("{date}T{hour:02}:{minute:02}:20.{fraction:06}+00:00"),
            _ => format!("{date}T{hour:02}:{minute:02}:40.{:03}Z", fraction / 1000),
        }
    }

    fn account(&mut self, number: usize) -> (String, String) {
        let (id, link, time) = (self.id(), self.link.clone(), self.time());
        let (category, name) = match number % 2 {
            0 => ("CHECKING_ACCOUNT", "Conta corrente"),
            _ => ("SAVINGS_ACCOUNT", "Conta poupan\\u00e7a"),
        };
        let (current, available) = (self.amount(), self.amount());
        let (digits, key) = (self.digits(7), self.digits(41));
        let text = format!(
            r#"{{"id":"{id}","link":"{link}","institution":{{"name":"ofmockbank_br_retail","type":"bank"}},"collected_at":"{time}","created_at":"{time}","last_accessed_at":null,"category":"{category}","balance_type":"ASSET","overdraft":{{"arranged":5000.5,"used":0,"unarranged":300.10}},"type":"STANDARD_NACIONAL","subtype":"INDIVIDUAL","name":"{name}","number":"{digits}","agency":"6272","check_digit":"7","balance":{{"current":{current},"available":{available},"blocked":60.32,"automatically_invested":131.5}},"currency":"BRL","public_identification_name":"AGENCY/ACCOUNT","public_identification_value":"6272/{digits}-7","internal_identification":"{key}","credit_data":null,"loan_data":null,"funds_data":null}}"#
        );
        (id, text)
    }

    fn owner(&mut self) -> String {
        let (id, link, time) = (self.id(), self.link.clone(), self.time());
        let (cpf, phone) = (self.digits(11), self.digits(8));
        format!(
            r#"{{"id":"{id}","link":"{link}","internal_identification":"7e5838e4","collected_at":"{time}","created_at":"{time}","display_name":"Jo\u00e3o Exemplo da Silva","social_name":null,"birth_date":"1988-07-15","marital_status":"SINGLE","marital_status_additional_info":null,"gender":"OTHER","companies_id":["60500998000135"],"is_local_resident":true,"document_id":{{"document_type":"CPF","document_number":"{cpf}"}},"additional_documents":[],"nationalities":null,"email":"joao@example.com","emails":[{{"is_main":true,"email":"joao@example.com"}}],"address":"Rua do Exemplo, 12","addresses":[],"phone_number":"{phone}","phone_numbers":[{{"is_main":true,"type":"MOBILE","additional_info":null,"number":"{phone}","country_code":"55","area_code":"21","extension":null}}],"filiations":[],"financial_profile":null,"financial_relation":null}}"#
        )
    }

    fn transaction(&mut self) -> String {
        let (id, time, date) = (self.id(), self.time(), self.date());
        let (amount, balance, key) = (self.amount(), self.amount(), self.digits(24));
        let kind = if self.rng.bool() { "INFLOW" } else { "OUTFLOW" };
        let description = DESCRIPTIONS[self.made % DESCRIPTIONS.len()];
        let (_, account) = &self.accounts[self.made % self.accounts.len()];
        format!(
            r#"{{"id":"{id}","internal_identification":"{key}","account":{account},"collected_at":"{time}","created_at":"{time}","value_date":"{date}","transacted_at":"{time}","accounting_date":null,"inferred_accounting_date":"{date}","amount":{amount},"local_currency_amount":null,"balance":{balance},"currency":"BRL","description":"{description}","observations":null,"merchant":null,"category":"Transfers","subcategory":null,"reference":null,"type":"{kind}","status":"PROCESSED","credit_card_data":null,"counterparty":{{"type":"COMPANY","document_number":"60500998000135","clearing_code":"001","agency":"6272","check_digit":"7","number":"24550245"}},"loan_data":null,"payment_type":null,"operation_type":"PIX","operation_type_additional_info":null,"mcc":null}}"#
        )
    }

    fn bill(&mut self, month: usize) -> String {
        let (id, time, due) = (self.id(), self.time(), self.date());
        let (total, minimum, key) = (self.amount(), self.amount(), self.digits(41));
        let (_, account) = &self.accounts[0];
        format!(
            r#"{{ "id":"{id}", "created_at":"{time}", "collected_at":"{time}", "account":{account}, "internal_identification":"{key}", "bill_name":"bill-{month}", "due_date":"{due}", "currency":"BRL", "total_amount":{total}, "minimum_amount":{minimum}, "is_installment":false, "finance_charges":[{{"type":"LATE_FEE","additional_info":null,"currency":"BRL","amount":91.890}}], "payments":[{{"type":"FULL","payment_date":"{due}","payment_mode":"PIX","currency":"BRL","amount":500.15}}] }}"#
        )
    }

    fn balance(&mut self, number: usize) -> String {
        let (id, link, time) = (self.id(), self.link.clone(), self.time());
        let (available, key) = (self.amount(), self.digits(41));
        let (account, _) = &self.accounts[number];
        format!(
            r#"{{"id":"{id}","link":"{link}","account_id":"{account}","account_internal_identification":"{key}","collected_at":"{time}","created_at":"{time}","last_updated_at":"{time}","currency":"BRL","available":{available},"blocked":0.0,"automatically_invested":1000.020}}"#
        )
    }

    fn investment(&mut self, number: usize) -> String {
        let (id, time, gross, net) = (self.id(), self.time(), self.amount(), self.amount());
        let key = self.digits(14);
        format!(
            r#"{{"id":"{id}","type":"FIXED_INCOME_BANKING","issuer_id_number":"{key}","isin_number":"BRCST4CTF00{number}","currency":"BRL","product_name":"CDB EXEMPLO {number}","is_tax_exempt":false,"clearing_code":"CDB421GPXXX","due_date":"2028-01-01","issue_date":"2026-01-01","purchase_date":"2026-01-02","grace_period_date":null,"issue_unit_price":1000,"balance":{{"reference_date":"{time}","gross_value":{gross},"blocked_amount":0,"quantity":100.0000001,"gross_unit_price":10,"net_value":{net},"withheld_amount":null,"transaction_fee":null,"purchase_unit_price":10,"pre_fixed_rate":0.05,"post_fixed_rate":null,"penalty_fee":null,"late_payment_fee":null,"closing_price":null,"unit_price_factor":1}},"remuneration":{{"pre_fixed_rate":0.05,"post_fixed_rate":1,"rate_type":"LINEAR","rate_periodicity":"MENSAL","calculation_base":"DIAS_CORRIDOS","indexer":"CDI","indexer_additional_info":null}},"classification_details":null,"voucher_payment_details":{{"is_voucher_payment":false,"periodicity":null,"periodicity_additional_info":null}},"debtor_details":null}}"#
        )
    }

    fn investment_transaction(&mut self) -> String {
        let (id, link, time, date) = (self.id(), self.link.clone(), self.time(), self.date());
        let (value, key) = (self.amount(), self.digits(41));
        let investment = &self.investments[self.made % self.investments.len()];
        format!(
            r#"{{"id":"{id}","link":"{link}","collected_at":"{time}","created_at":"{time}","investment":{investment},"internal_identification":"{key}","value_date":"{date}","gross_value":{value},"net_value":{value},"value":{value},"unit_price":3,"price_factor":1,"transaction_tax":0,"income_tax":0.00,"quantity":20,"type":"INFLOW","subtype":"APLICACAO","subtype_additional_info":null,"indexer_percentage":0,"rate":0,"exit_fee":0,"broker_note_details":null}}"#
        )
    }
}

/// A random (version 4) UUID.
pub(super) fn uuid(rng: &mut Rng) -> String {
    let bits = rng.u128(..) & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn everything(house: &mut Household) -> Vec<String> {
        let mut all = house.accounts();
        all.extend(house.owners());
        all.extend(house.transactions(50));
        all.extend(house.bills(3));
        all.extend(house.balances());
        all.extend(house.investments());
        all.extend(house.investment_transactions(20));
        all
    }

    #[test]
    fn every_object_is_json_with_an_id_of_its_own() {
        let all = everything(&mut Household::new(7, 2));
        let ids: BTreeSet<String> = all
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).expect("an object is JSON"))
            .map(|object| {
                object["id"]
                    .as_str()
                    .expect("an object has an id")
                    .to_owned()
            })
            .collect();
        assert_eq!(ids.len(), all.len());
        assert!(
            ids.iter()
                .all(|id| ::uuid::Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 4))
        );
    }

    #[test]
    fn a_seed_makes_the_same_objects_again() {
        let (mut one, mut two) = (Household::new(7, 2), Household::new(7, 2));
        assert_eq!(everything(&mut one), everything(&mut two));
        assert_ne!(one.link(), Household::new(8, 2).link());
    }

    #[test]
    fn amounts_that_no_float_holds_are_among_them() {
        let all = everything(&mut Household::new(7, 2)).concat();
        for amount in AMOUNTS {
            assert!(all.contains(&format!(":{amount},")), "{amount}");
        }
    }
}
