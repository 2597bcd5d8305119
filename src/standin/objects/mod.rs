//! Made-up objects with the field names of Belvo's API description, the same for the same seed.
//! They are JSON texts with what a careless reader breaks in them: amounts that no float holds, both forms of a
//! timestamp, escapes, uneven white space. No person in them exists.

mod banking;
mod chile;
mod employment;
mod enrichment;
mod fiscal;
mod records;

use fastrand::Rng;

use super::payloads::Resource;

pub use records::{ConsentRecord, LinkRecord};

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

/// Names of institutions: their country and kind say where a link's data is to be found.
pub mod institutions {
    /// A bank of Open Finance Brazil.
    pub const BANK_BRAZIL: &str = "ofmockbank_br_retail";
    /// The social security of Brazil.
    pub const EMPLOYMENT_BRAZIL: &str = "inss_br_employment";
    /// The social security of Mexico.
    pub const EMPLOYMENT_MEXICO: &str = "imss_mx_employment";
    /// The tax authority of Mexico.
    pub const FISCAL_MEXICO: &str = "tatooine_mx_fiscal";
    /// The tax authority of Chile.
    pub const FISCAL_CHILE: &str = "sii_cl_fiscal";
}

/// One link with the objects that are made for it; accounts and investments first, the rest refers to them.
#[derive(Debug)]
pub struct Household {
    link: String,
    consent: String,
    institution: &'static str,
    rng: Rng,
    made: usize,
    accounts: Vec<(String, String)>,
    investments: Vec<String>,
}

impl Household {
    /// A link of its own to a Brazilian bank, with `accounts` accounts and two investments.
    pub fn new(seed: u64, accounts: usize) -> Self {
        Self::at(institutions::BANK_BRAZIL, seed, accounts)
    }

    /// The same at another institution.
    pub fn at(institution: &'static str, seed: u64, accounts: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut house = Self {
            link: uuid(&mut rng),
            consent: uuid(&mut rng),
            institution,
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

    /// What the list of `resource` holds: `count` objects where the number is not given by the household itself.
    pub fn objects(&mut self, resource: Resource, count: usize) -> Vec<String> {
        match resource {
            Resource::Accounts => self.accounts(),
            Resource::Owners => self.owners(),
            Resource::Transactions => self.transactions(count),
            Resource::Bills => self.bills(count),
            Resource::Investments => self.investments(),
            Resource::InvestmentTransactions => self.investment_transactions(count),
            Resource::Balances => self.balances(),
            Resource::Exchanges => self.exchanges(count),
            Resource::Incomes => self.incomes(count),
            Resource::RecurringExpenses => self.recurring_expenses(count),
            Resource::RiskInsights => self.risk_insights(count),
            Resource::EmploymentRecords => self.employment_records(count),
            Resource::CurrentEmployments => self.current_employments(count),
            Resource::EmploymentMetrics => self.employment_metrics(count),
            Resource::Employments => self.employments(count),
            Resource::Invoices => self.invoices(count),
            Resource::TaxReturns => self.tax_returns(count),
            Resource::TaxStatus => self.tax_status(count),
            Resource::TaxComplianceStatus => self.tax_compliance_status(count),
            Resource::TaxRetentions => self.tax_retentions(count),
            Resource::FinancialStatements => self.financial_statements(count),
            Resource::InvoicesChile => self.invoices_chile(count),
            Resource::TaxStatusChile => self.tax_status_chile(count),
            Resource::DebtReports => self.debt_reports(count),
        }
    }

    fn many(&mut self, template: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.filled(template, &[])).collect()
    }

    /// The template on one line, each `$name` in it replaced: by what `own` has for it, or by a value made up for it.
    /// A number is so many digits.
    fn filled(&mut self, template: &str, own: &[(&str, &str)]) -> String {
        let template: String = template.lines().collect();
        let mut parts = template.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = part.find(|c| !in_name(c)).unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            match own.iter().find(|(own, _)| *own == name) {
                Some((_, value)) => text += value,
                None => text += &self.value(name),
            }
            text += rest;
        }
        text
    }

    fn value(&mut self, name: &str) -> String {
        match name {
            "id" => self.id(),
            "link" => self.link.clone(),
            "institution" => self.institution.to_owned(),
            "time" => self.time(),
            "date" => self.date(),
            "amount" => self.amount().to_owned(),
            "account_id" => self.any_account().0.clone(),
            "account" => self.any_account().1.clone(),
            "investment" => self.investments[self.rng.usize(..self.investments.len())].clone(),
            digits => {
                let count = digits
                    .parse()
                    .expect("a template names a value or a number of digits");
                self.digits(count)
            }
        }
    }

    fn any_account(&mut self) -> &(String, String) {
        &self.accounts[self.rng.usize(..self.accounts.len())]
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
        Resource::ALL
            .iter()
            .flat_map(|resource| house.objects(*resource, 20))
            .collect()
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
    fn every_object_is_on_one_line_and_nothing_is_left_to_fill_in() {
        for text in everything(&mut Household::new(7, 2)) {
            assert!(!text.contains(['$', '\n']), "{text}");
        }
    }

    #[test]
    fn a_record_is_json_about_its_link() {
        let house = Household::at(institutions::FISCAL_CHILE, 7, 1);
        let link: Value = serde_json::from_str(&house.link_record().text()).expect("JSON");
        let consent: Value = serde_json::from_str(&house.consent_record().text()).expect("JSON");
        assert_eq!(link["institution"], institutions::FISCAL_CHILE);
        assert_eq!(
            (&link["id"], &link["id"]),
            (&consent["link_id"], &house.link().into())
        );
    }

    #[test]
    fn amounts_that_no_float_holds_are_among_them() {
        let all = everything(&mut Household::new(7, 2)).concat();
        for amount in AMOUNTS {
            assert!(all.contains(&format!(":{amount},")), "{amount}");
        }
    }
}
