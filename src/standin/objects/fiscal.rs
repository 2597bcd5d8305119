//! Invoices, tax returns, tax statuses, retentions and financial statements of Mexico.

use super::Household;

/// `/api/invoices/`
const INVOICE: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time","invoice_identification":"$id",
"invoice_date":"$date","status":"Vigente","invoice_type":"Ingreso","type":"INFLOW",
"tax_details":{"total_tax_retained":$amount,"total_tax_transferred":$amount,
"retained_taxes":[{"tax_type":"Tasa","tax":"ISR","tax_percentage":$amount,"pre_tax_amount":$amount,
"tax_amount":$amount}],"transferred_taxes":[{"tax_type":"Tasa","tax":"IVA","tax_percentage":$amount,
"pre_tax_amount":$amount,"tax_amount":$amount}]},"sender_id":"XAXX010101000","sender_fiscal_regime":"601",
"sender_name":"EMPRESA EJEMPLO SA","sender_tax_fraud_status":"NO_TAX_FRAUD_STATUS",
"receiver_id":"XEXX010101000","receiver_postal_code":"11560","receiver_fiscal_regime":"601",
"receiver_name":"OTRA EMPRESA SA","receiver_tax_fraud_status":"NO_TAX_FRAUD_STATUS","cancelation_status":null,
"cancelation_update_date":null,"certification_date":"$date","certification_authority":"XAXX010101000",
"payment_type":"99","payment_type_description":null,"payment_method":"PUE","payment_method_description":null,
"usage":"P01","version":"3.3","place_of_issue":"01165","invoice_details":[{"collected_at":"$time",
"description":"Honorarios de contabilidad","product_identification":"84101600","quantity":$amount,
"unit_code":"E48","unit_description":"Unidad de servicio","unit_amount":$amount,"discount":$amount,
"tax_subject_code":"02","identifier_number":"PROD-12345","pre_tax_amount":$amount,"tax_percentage":$amount,
"tax_amount":$amount,"total_amount":$amount,"retained_taxes":[{"collected_at":"$time","tax_type":"Tasa",
"tax":"ISR","tax_percentage":$amount,"retained_tax_amount":$amount}],
"transferred_taxes":[{"collected_at":"$time","tax_type":"Tasa","tax":"IVA","tax_percentage":$amount,
"transferred_tax_amount":$amount}]}],"currency":"MXN","subtotal_amount":$amount,"exchange_rate":$amount,
"tax_amount":$amount,"discount_amount":$amount,"total_amount":$amount,
"related_invoices":[{"relationship_type":"01","related_invoice_identification":"INV-123456"}],
"payments":[{"date":"$time","payment_type":"03","currency":"BRL","exchange_rate":"3.75","amount":$amount,
"operation_number":"$12","beneficiary_rfc":"XAXX010101000","beneficiary_account_number":"12343453245633",
"payer_rfc":"XAXX010101000","payer_account_number":"13343663245699","payer_bank_name":"BANCO EJEMPLO",
"related_documents":[{"invoice_identification":"$id","currency":"MXN","payment_method":"PPD",
"partiality_number":1,"previous_balance":$amount,"amount_paid":$amount,"outstanding_balance":$amount}]}],
"payroll":{"days":30,"type":"Exemplo","amount":$amount,"version":"1.2","date_from":"$date","date_to":"$date",
"collected_at":"$time","payment_date":"$date","periodicity":"MONTHLY","earnings_breakdown":[{"type":"Exemplo",
"taxable_amount":$amount,"vat_free_amount":$amount}],"tax_deductions":[{"type":"Exemplo","amount":$amount}],
"other_payments":[{"type":"Exemplo","amount":$amount}]},"folio":"$8","series":"A","export_type":"01",
"xml":"<?xml version=\"1.0\"?>\n<cfdi\/>","warnings":null,"sender_blacklist_status":null,
"receiver_blacklist_status":null}
"#;

/// `/api/tax-status/`
const TAX_STATUS: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time",
"place_and_date_of_issuance":"CIUDAD DE M\u00c9XICO A 19 DE MARZO DE 2026",
"official_name":"MARIA EXEMPLO DA SILVA","id_cif":"12345678901","tax_payer_information":{"rfc":"XAXX010101000",
"curp":null,"name":"Exemplo","first_last_name":"EJEMPLO","second_last_name":"SOTO","start_operations_date":null,
"status_padron":null,"last_status_change_date":"$date","commercial_name":"Ejemplo",
"social_name":"EJEMPLO SA DE CV","email":"maria@example.com","phone":"$10"},"address":{"postal_code":"21255",
"street_type":"CALLE","street":"CALLE EJEMPLO","exterior_number":"432","interior_number":null,
"suburb":"BUENAVENTURA","locality":null,"municipality":"CDMX DC","state":"Federal",
"between_street":[{"street_one":"CALLE PRINCIPE","street_two":"CALLE NUEVA ROMA"}]},
"economic_activity":[{"economic_activity":"Asalariado","initial_date":"$date","end_date":null,"order":"1",
"percentage":"100"}],"regimes":[{"end_date":null,"initial_date":"$date",
"regimen":"R\u00e9gimen de Ingresos por Dividendos (socios y accionistas)"}],
"obligations":[{"obligation":"Declaraci\u00f3n informativa de IVA con la anual de ISR",
"expiration":"Conjuntamente con la declaraci\u00f3n anual del ejercicio.","initial_date":"$date",
"end_date":null}],"digital_stamp":"||2026\/04\/26|XAXX010101000|",
"digital_stamp_chain":"EtenSA9t1adG7bn+Jj23==","pdf":"JVBERi0xLjQK"}
"#;

/// `/api/tax-compliance-status/`
const TAX_COMPLIANCE_STATUS: &str = r#"
{"id":"$id","collected_at":"$time","created_at":"$time","internal_identification":"$18","pdf":"JVBERi0xLjQK",
"rfc":"XAXX010101000","outcome":"NEGATIVE"}
"#;

/// `/api/tax-retentions/`
const TAX_RETENTION: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time","invoice_identification":"$id",
"version":"1.0","code":25,"issued_at":"$time","certified_at":"$time","cancelled_at":null,
"sender_id":"XAXX010101000","sender_name":"EMPRESA EJEMPLO SA","receiver_nationality":"NATIONAL",
"receiver_id":"XEXX010101000","receiver_name":"OTRA EMPRESA SA","total_invoice_amount":$amount,
"total_exempt_amount":$amount,"total_retained_amount":$amount,"total_taxable_amount":$amount,
"retention_breakdown":[{"base_amount":$amount,"tax_type":"01","retained_amount":$amount,
"payment_status":"PAID"}],"xml":"<?xml version=\"1.0\"?>\n<cfdi\/>"}
"#;

/// `/api/financial-statements/`
const FINANCIAL_STATEMENT: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time","error":null,"year":"2025",
"currency":"MXN","balance_sheet":{"current_assets":{"cash_and_equivalents":$amount,
"short_term_investments":$amount,"accounts_receivable":$amount,"notes_receivable":$amount,
"other_debtors":$amount,"bad_debt_provision":$amount,"tax_recoverable":$amount,"inventory":$amount,
"prepaid_expenses":$amount,"assets_available_for_sale":$amount,"total":$amount},
"non_current_assets":{"property_plant_and_equipment":$amount,
"accumulated_depreciation_and_amortization":$amount,"long_term_accounts_receivable":$amount,
"prepayment_to_suppliers":$amount,"goodwill":$amount,"intangible_assets":$amount,
"investments_in_associates":$amount,"long_term_financial_instruments":$amount,"total":$amount},
"current_liabilities":{"bank_loans":$amount,"accounts_payable":$amount,"notes_payable":$amount,
"financial_instruments":$amount,"other_creditors":$amount,"income_tax_payable":$amount,
"customer_advances":$amount,"provisions":$amount,"taxes_payable":$amount,"total":$amount},
"non_current_liabilities":{"long_term_accounts_payable":$amount,"long_term_financial_instruments":$amount,
"deferred_revenue":$amount,"contributions_for_future_capital_increases":$amount,"deferred_income_tax":$amount,
"employee_benefits":$amount,"long_term_provisions":$amount,"total":$amount},
"equity":{"stockholders_equity":$amount,"future_capital_contributions":$amount,"legal_reserve":$amount,
"capital_update_excess":$amount,"capital_update_insufficiency":$amount,"capital_reserve":$amount,
"share_premium_on_stock_sales":$amount,"retained_earnings":$amount,"other_comprehensive_income":$amount,
"controlling_interest":$amount,"non_controlling_interest":$amount,"total":$amount}},
"income_statement":{"net_revenue":$amount,"domestic_sales":$amount,"foreign_sales":$amount,
"materials_used":$amount,"cost_of_goods_sold":$amount,"cost_of_services_sold":$amount,"gross_profit":$amount,
"gross_loss":null,"operating_expenses":$amount,"operating_income":$amount,"operating_loss":null,
"financial_result":$amount,"income_statement_financial_gains":$amount,
"income_statement_financial_costs":-32000.010,"equity_in_earnings_of_affiliates":$amount,
"income_before_taxes":$amount,"loss_before_taxes":null,"income_taxes":$amount,
"income_from_continuing_operations":$amount,"loss_from_continuing_operations":null,
"discontinued_operations":$amount,"net_income":$amount,"net_loss":null}}
"#;

/// `/api/tax-returns/`
const TAX_RETURN_PERSONAL: &str = r#"
{"id":"$id","link":"$link","collected_at":"$time","created_at":"$time",
"informacion_general":{"importe":$amount},"sueldos_salarios":{"importe":$amount},
"servicios_profesionales":{"importe":$amount},"deducciones_personales":{"importe":$amount},
"determinacion_impuesto":{"importe":$amount},"retenciones":{"importe":$amount},"dividendos":{"importe":$amount},
"datos_informativos":{"importe":$amount},"pdf":"JVBERi0xLjQK","receipt_pdf":"JVBERi0xLjQK"}
"#;

/// `/api/tax-returns/`
const TAX_RETURN_PERSONAL_MONTHLY: &str = r#"
{"id":"$id","collected_at":"$time","created_at":"$time","informacion_general":{"importe":$amount},
"isr":{"importe":$amount},"iva":{"importe":$amount},"pdf":"JVBERi0xLjQK","receipt_pdf":"JVBERi0xLjQK",
"type":"Exemplo"}
"#;

/// `/api/tax-returns/`
const TAX_RETURN_BUSINESS: &str = r#"
{"id":"$id","collected_at":"$time","created_at":"$time","informacion_general":{"importe":$amount},
"datos_adicionales":{"importe":$amount},"estado_resultados":{"importe":$amount},
"estado_posicion_financiera_balance":{"importe":$amount},
"conciliacion_entre_resultado_contable_fiscal":{"importe":$amount},
"deducciones_autorizadas":{"importe":$amount},"cifras_cierre_ejercicio":{"importe":$amount},
"determinacion_del_impuesto_sobre_la_renta":{"importe":$amount},
"dividendos_o_utilidades_distribuidos":{"importe":$amount},
"detalle_pago_r1_isr_personas_morales":{"importe":$amount},"ingressos":{"importe":$amount},
"determinacion":{"importe":$amount},"pdf":"JVBERi0xLjQK","receipt_pdf":"JVBERi0xLjQK"}
"#;

/// `/api/tax-returns/`
const TAX_RETURN_BUSINESS_MONTHLY: &str = r#"
{"id":"$id","collected_at":"$time","created_at":"$time","informacion_general":{"importe":$amount},
"determinacion_isr":{"importe":$amount},"detalle_pago_isr":{"importe":$amount},
"determinacion_iva":{"importe":$amount},"detalle_pago_iva":{"importe":$amount},"pdf":"JVBERi0xLjQK",
"receipt_pdf":"JVBERi0xLjQK","type":"Exemplo"}
"#;

impl Household {
    /// `/api/invoices/`
    pub fn invoices(&mut self, count: usize) -> Vec<String> {
        self.many(INVOICE, count)
    }

    /// `/api/tax-returns/`, in turn of persons and companies, yearly and monthly; only those of a person's year name
    /// their link.
    pub fn tax_returns(&mut self, count: usize) -> Vec<String> {
        let shapes = [
            TAX_RETURN_PERSONAL,
            TAX_RETURN_PERSONAL_MONTHLY,
            TAX_RETURN_BUSINESS,
            TAX_RETURN_BUSINESS_MONTHLY,
        ];
        let in_turn = shapes.iter().cycle().take(count);
        in_turn.map(|shape| self.filled(shape, &[])).collect()
    }

    /// `/api/tax-status/`
    pub fn tax_status(&mut self, count: usize) -> Vec<String> {
        self.many(TAX_STATUS, count)
    }

    /// `/api/tax-compliance-status/`
    pub fn tax_compliance_status(&mut self, count: usize) -> Vec<String> {
        self.many(TAX_COMPLIANCE_STATUS, count)
    }

    /// `/api/tax-retentions/`
    pub fn tax_retentions(&mut self, count: usize) -> Vec<String> {
        self.many(TAX_RETENTION, count)
    }

    /// `/api/financial-statements/`
    pub fn financial_statements(&mut self, count: usize) -> Vec<String> {
        self.many(FINANCIAL_STATEMENT, count)
    }
}
