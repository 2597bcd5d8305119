//! Invoices, tax statuses and debt reports of Chile.

use super::Household;

/// `/api/cl/invoices/`
const INVOICE: &str = r#"
{"id":"$id","link":"$link","created_at":"$time","collected_at":"$time","total_amount":$amount,
"net_amount":$amount,"vat_amount":$amount,"currency":"CLP","issue_date":"$date","received_at":"$time",
"acknowledged_at":"$time","claim_date":null,"status":"Vigente","document_code":33,"category":"Del Giro",
"folio":"$8","sender_id":"XAXX010101000","sender_name":"EMPRESA EJEMPLO SA","receiver_id":"XEXX010101000",
"receiver_name":"OTRA EMPRESA SA","type":"INFLOW","purchase_invoice_details":{"vat_refundable_amount":$amount,
"vat_non_refundable_amount":$amount,"vat_non_refundable_code":90,"net_amount_fixed_assets":$amount,
"vat_fixed_assets":$amount,"vat_common_use":$amount,"tax_non_credit_amount":$amount,"vat_non_withheld":$amount,
"tax_exempt_amount":$amount,"credit_or_debit_note_on_purchase":false,"tax_cigarettes_amount":$amount,
"tax_cigar_amount":$amount,"tax_processed_tobacco_amount":$amount,"additional_tax_amount":$amount,
"additional_tax_rate":"2.1","additional_tax_code":50993},
"sales_invoice_details":{"construction_sector_tax_credit":$amount,"tax_free_trade_zone_amount":$amount,
"container_deposit_guarantee":$amount,"is_free_of_charge":false,"periodic_billing_type":false,
"non_billable_amount":$amount,"total_amount_for_period":$amount,"domestic_transportation_amount":$amount,
"international_transportation_amount":$amount,"branch_code":76129014,"tax_exempt_amount":$amount,
"credit_or_debit_note_on_purchase":false,"additional_tax_code":50993,"additional_tax_rate":"2.1",
"additional_tax_amount":$amount,"vat_total_withheld":$amount,"vat_partially_withheld":$amount,
"vat_non_withheld":$amount,"vat_sales":$amount,"vat_third_party":$amount,"vat_past_due":$amount,
"invoice_settlement_sender_id":"55524768-7","invoice_settlement_net_commission":$amount,
"invoice_settlement_exempt_commission":$amount,"invoice_settlement_vat_commission":$amount,
"reference_document_type":null,"reference_document_folio":null,"foreign_recipient_id":"JANM-7820234",
"foreign_recipient_nationality":"Peru"},"summary_invoice_details":{"month":"2026-10","updated_at":"$time",
"total_documents":23,"tax_exempt_amount":$amount}}
"#;

/// `/api/cl/tax-status/`
const TAX_STATUS: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time",
"entity_details":{"incorporation_date":"$date","start_date":"$date","end_date":null,"document_id_type":"RUT",
"document_id_number":"$8-K","name":"Exemplo"},"addresses":[{"type":"PRIMARY","date":"$date",
"address":"Calle Falsa 123"}],"emails":[{"type":"CONTACT","email":"maria@example.com"}],
"phone_numbers":[{"type":"LANDLINE","number":"$9"}],"economic_activities":[{"type":"Exemplo",
"activity":"ACTIVIDADES DE CONSULTORIA DE GESTION","code":"702000","tax_category":1,"vat_affected":false,
"start_date":"$date"}],"legal_representative":[{"is_current":false,"name":"Exemplo","document_id_type":"RUT",
"document_id_number":"$8-K","start_date":"$date","end_date":null}],"equity_holders":[{"is_current":false,
"name":"Exemplo","document_id_type":"RUT","document_id_number":"$8-K","inactive":false,"start_date":"$date",
"end_date":null,"capital_contributed":$amount,"capital_contribution_outstanding":$amount,
"ownership_share":$amount,"profit_share":$amount}],"company_partnership_stakes":[{"name":"Exemplo",
"document_id_type":"RUT","document_id_number":"$8-K","inactive":false,"start_date":"$date","end_date":null,
"capital_contributed":$amount,"capital_contribution_outstanding":$amount,"ownership_share":$amount,
"profit_share":$amount}],"regimes":[{"type":"Exemplo","start_date":"$date"}],
"authorized_tax_documents":[{"type":"Exemplo","document_limit":2000,"authorization_date":"$date"}],
"property_tax_liabilities":[{"property_id":"12345","district":"NUNOA","address":"Calle Ejemplo 123",
"type":"Exemplo","overdue_tax_payments":[{"year":2023,"installment":1,"due_date":"$date","amount_due":$amount}],
"scheduled_tax_payments":[{"year":2023,"installment":1,"due_date":"$date","amount_due":$amount}]}],
"fiscal_office":{"name":"Exemplo","address":"ARLEGUI 525, VI\u00d1A DEL MAR"}}
"#;

/// `/api/cl/debt-reports/`
const DEBT_REPORT: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time",
"personal_data":{"full_name":"Mar\u00eda Ejemplo Soto","document_id_type":"RUT","document_id_number":"$8-K"},
"debt_data_last_update":"$date","currency":"CLP","total":$amount,"current":$amount,"delinquent":null,
"severely_delinquent":$amount,"defaulted":$amount,"direct_debts":[{"financial_institution":"Banco Ejemplo",
"credit_type":"Vivienda","amount":$amount,"current":$amount,"delinquent":null,"severely_delinquent":$amount,
"defaulted":$amount}],"indirect_debts":[{"financial_institution":"Banco Ejemplo Dos","credit_type":"Consumo",
"amount":$amount,"current":$amount,"delinquent":null,"severely_delinquent":$amount,"defaulted":$amount}],
"credit_lines":[{"financial_institution":"Banco Ejemplo Dos","direct_amount":$amount,
"indirect_amount":$amount}],"other_credits":[{"financial_institution":"Banco Ejemplo Dos",
"direct_amount":$amount,"indirect_amount":$amount}]}
"#;

impl Household {
    /// `/api/cl/invoices/`
    pub fn invoices_chile(&mut self, count: usize) -> Vec<String> {
        self.many(INVOICE, count)
    }

    /// `/api/cl/tax-status/`
    pub fn tax_status_chile(&mut self, count: usize) -> Vec<String> {
        self.many(TAX_STATUS, count)
    }

    /// `/api/cl/debt-reports/`
    pub fn debt_reports(&mut self, count: usize) -> Vec<String> {
        self.many(DEBT_REPORT, count)
    }
}
