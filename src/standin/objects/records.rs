//! The records of links and consents, which are not data of a bank but what Belvo keeps about its access to one.

use super::Household;

/// The record of a link, as `/api/links/{id}/` answers it. What a test wants otherwise, it changes.
#[derive(Debug, Clone)]
pub struct LinkRecord {
    /// The link's id.
    pub id: String,
    /// Name of the institution, with country and kind: `ofmockbank_br_retail`.
    pub institution: String,
    /// `valid`, `invalid`, `unconfirmed` or `token_required`.
    pub status: &'static str,
    /// `single` or `recurrent`; only the latter has a refresh rate.
    pub access_mode: &'static str,
    /// When Belvo last was at the institution with success.
    pub last_accessed_at: Option<String>,
    /// The resources Belvo collects, in upper case.
    pub fetch_resources: Vec<&'static str>,
}

impl LinkRecord {
    /// The record as JSON, with every field of the description.
    pub fn text(&self) -> String {
        let Self {
            id,
            institution,
            status,
            access_mode,
            ..
        } = self;
        let accessed = quoted_or_null(self.last_accessed_at.as_deref());
        let rate = quoted_or_null((*access_mode == "recurrent").then_some("7d"));
        let resources = self.fetch_resources.join(r#"",""#);
        format!(
            r#"{{"id":"{id}","institution":"{institution}","access_mode":"{access_mode}","last_accessed_at":{accessed},"created_at":"2026-01-09T08:45:50.406032Z","external_id":"your_external_id","institution_user_id":"sooE7XJWEKypZJR603ecaWYk-8Ap0oD8Nr1pBQ4eG9c=","status":"{status}","created_by":"bcef7f35-67f2-4b19-b009-cb38795faf09","refresh_rate":{rate},"credentials_storage":"27d","fetch_resources":["{resources}"],"stale_in":"365d"}}"#
        )
    }
}

/// The record of a consent, as `/api/consents/{id}/` answers it. What a test wants otherwise, it changes.
#[derive(Debug, Clone)]
pub struct ConsentRecord {
    /// The consent's id.
    pub id: String,
    /// The link it belongs to; one to one.
    pub link: String,
    /// Name of the institution.
    pub institution: String,
    /// `AUTHORISED`, `EXPIRED`, and what else Belvo lists.
    pub status: &'static str,
    /// When it ends; none when that is not defined.
    pub expired_at: Option<String>,
}

impl ConsentRecord {
    /// The record as JSON, with every field of the description.
    pub fn text(&self) -> String {
        let Self {
            id,
            link,
            institution,
            status,
            expired_at,
        } = self;
        let undefined = expired_at.is_none();
        let expired = quoted_or_null(expired_at.as_deref());
        let duration = if undefined { "null" } else { "366" };
        format!(
            r#"{{"id":"{id}","display_name":"Jo\u00e3o Exemplo da Silva","document_number":"00000000191","belvo_institution_name":"{institution}","institution_display_name":"OF Mockbank","institution_icon_logo":"https://logo.com","belvo_organization_name":"Exemplo Ltda","link_id":"{link}","user_name":"Jo\u00e3o Exemplo","expired_at":{expired},"undefined_consent_expiration":{undefined},"consent_duration":{duration},"created_at":"2026-01-09T08:45:50.406032Z","status":"{status}","permissions":{{"ACCOUNTS":["ACCOUNTS_READ","ACCOUNTS_BALANCES_READ"],"CREDIT_CARDS":[],"CREDIT_OPERATIONS":["LOANS_READ"],"REGISTER":["CUSTOMERS_PERSONAL_IDENTIFICATIONS_READ"],"RESOURCES":["RESOURCES_READ"],"INVESTMENTS":["FUNDS_READ"]}}}}"#
        )
    }
}

impl Household {
    /// The record of the link: valid, recurrent, accessed today.
    pub fn link_record(&self) -> LinkRecord {
        LinkRecord {
            id: self.link.clone(),
            institution: self.institution.to_owned(),
            status: "valid",
            access_mode: "recurrent",
            last_accessed_at: Some("2026-11-20T10:28:40.000Z".to_owned()),
            fetch_resources: vec!["ACCOUNTS", "OWNERS", "TRANSACTIONS"],
        }
    }

    /// The record of the link's consent: authorised, for a year.
    pub fn consent_record(&self) -> ConsentRecord {
        ConsentRecord {
            id: self.consent.clone(),
            link: self.link.clone(),
            institution: self.institution.to_owned(),
            status: "AUTHORISED",
            expired_at: Some("2027-01-10T08:45:50.000Z".to_owned()),
        }
    }
}

fn quoted_or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\""))
}
