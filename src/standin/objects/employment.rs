//! Employment records, current employments and employment metrics of Mexico, and employments of Brazil.

use super::Household;

/// `/api/employment-records/`
const EMPLOYMENT_RECORD: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","collected_at":"$time","report_date":"$date",
"days_since_extraction":42,"internal_identification":"$18",
"personal_data":{"official_name":"MARIA EXEMPLO DA SILVA","first_name":"Maria","last_name":"Exemplo da Silva",
"birth_date":"$date","entitlements":{"entitled_to_health_insurance":false,"entitled_to_company_benefits":false,
"valid_until":null,"status":"EMPLOYED"},"document_ids":[{"document_type":"NSS","document_number":"$11"}],
"email":"maria@example.com"},"social_security_summary":{"weeks_redeemed":0,"weeks_reinstated":0,
"weeks_contributed":188},"employment_records":[{"collected_at":"$time","employer":"Empresa de Exemplo",
"employer_id":"$12","start_date":"$date","end_date":null,"weeks_employed":12,"state":"DISTRITO FEDERAL",
"most_recent_base_salary":$amount,"monthly_salary":$amount,"currency":"MXN",
"employment_status_updates":[{"event":"HIRED","base_salary":$amount,"update_date":"$date"}]}],
"employment_scores":[{"score":612,"period":6,"version":"1.0.0"}],
"salary_estimation":{"employment_status_estimate":"EMPLOYED","base_salary_estimate":$amount,"currency":"MXN"},
"files":[{"type":"Exemplo","value":"JVBERi0xLjQK"}]}
"#;

/// `/api/mx/current-employments/`
const CURRENT_EMPLOYMENT: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","collected_at":"$time","month":"2026-10",
"internal_identification":"$18","personal_data":{"official_name":"MARIA EXEMPLO DA SILVA","first_name":"Maria",
"last_name":"Exemplo da Silva","birth_date":"$date","document_ids":[{"document_type":"NSS",
"document_number":"$11"}]},"status":"EMPLOYED","current_employment_records":[{"employer":"Empresa de Exemplo",
"employer_id":"$12","employer_rfc":"XAXX010101000","state":"CDMX","days_employed":365,"base_salary":$amount,
"monthly_salary":$amount}]}
"#;

/// `/api/employment-metrics/`
const EMPLOYMENT_METRIC: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time","updated_at":"$time",
"reference_date":"$date","age":32,"current_status":"EMPLOYED","current_employer_count":1,
"base_salary_last":$amount,"weeks_employed_last_job":$amount,"weeks_since_last_job":$amount,
"weeks_employed_total":$amount,"weeks_with_multiple_employers":$amount,"employer_count":14,
"unique_employer_count":3,"employers_per_year":$amount,"weeks_between_jobs":$amount,
"max_weeks_between_jobs":$amount,"increases_last_job":0,"decreases_last_job":0,"increases_after_change":0,
"decreases_after_change":0,"increases_overall":0,"decreases_overall":0,"increases_1y":0,"decreases_1y":0,
"increases_3y":1,"decreases_3y":1,"increases_5y":1,"decreases_5y":1,"yearly_change_1y":$amount,
"yearly_change_3y":$amount,"yearly_change_5y":null,"min_monthly_salary_1y":$amount,
"min_monthly_salary_3y":$amount,"min_monthly_salary_5y":$amount,"average_monthly_salary_1y":$amount,
"average_monthly_salary_3y":$amount,"average_monthly_salary_5y":$amount,"max_monthly_salary_1y":$amount,
"max_monthly_salary_3y":$amount,"max_monthly_salary_5y":null}
"#;

/// `/api/br/employments/`
const EMPLOYMENT: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","collected_at":"$time","start_date":"$date","end_date":null,
"employer_data":{"name":"Exemplo","code":"49430669","economic_activity":"6421-2 - BANCOS COMERCIAIS"},
"occupations":[{"start_date":"$date","end_date":null,"description":"ANALISTA DE PRODUTOS BANCARIOS",
"name":"Exemplo","locale":"Urbana"}],"salaries":[{"base_amount":$amount,"retained_amount":$amount,
"type":"VOLUNTARY","month":"2026-10","currency":"BRL"}]}
"#;

impl Household {
    /// `/api/employment-records/`
    pub fn employment_records(&mut self, count: usize) -> Vec<String> {
        self.many(EMPLOYMENT_RECORD, count)
    }

    /// `/api/mx/current-employments/`
    pub fn current_employments(&mut self, count: usize) -> Vec<String> {
        self.many(CURRENT_EMPLOYMENT, count)
    }

    /// `/api/employment-metrics/`
    pub fn employment_metrics(&mut self, count: usize) -> Vec<String> {
        self.many(EMPLOYMENT_METRIC, count)
    }

    /// `/api/br/employments/`
    pub fn employments(&mut self, count: usize) -> Vec<String> {
        self.many(EMPLOYMENT, count)
    }
}
