//! One answer of the API -> one object as the bytes Belvo sent, and what is read of a link's or consent's record. Pure.

use serde::Deserialize;

use super::page::{head_of, text_of};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The value of `id`.
    pub id: String,
    /// The link that the object itself names.
    pub link_id: Option<String>,
    /// The whole object.
    pub body: String,
}

impl Object {
    /// Reads an answer's body.
    ///
    /// # Errors
    /// When it is not an object with an id; says what was expected, without any of its bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let body = text_of(bytes)?;
        let (id, link_id) = head_of(&body).ok_or("it is no JSON object with an id")?;
        Ok(Self { id, link_id, body })
    }
}

/// What is read of a link's record. Every field may be missing: Belvo may change it, and what is kept is the whole body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LinkRecord {
    /// `valid`, `invalid`, `token_required`, `unconfirmed`, or something newer.
    pub status: Option<String>,
    /// By name, as `ofmockbank_br_retail`.
    pub institution: Option<String>,
    /// When Belvo last got through to the institution.
    pub last_accessed_at: Option<String>,
    /// The resources that Belvo collects for the link, as types of webhooks.
    pub fetch_resources: Option<Vec<String>>,
}

/// What is read of a consent's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConsentRecord {
    /// In Belvo's words.
    pub status: Option<String>,
    /// When it ends.
    pub expired_at: Option<String>,
}

impl LinkRecord {
    /// Reads what it can of a record; a field of another type counts as missing.
    pub fn read(body: &str) -> Self {
        lenient(body)
    }
}

impl ConsentRecord {
    /// Reads what it can of a record; a field of another type counts as missing.
    pub fn read(body: &str) -> Self {
        lenient(body)
    }
}

/// One field of another type must not hide the others.
fn lenient<T: Default + for<'a> Deserialize<'a>>(body: &str) -> T {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(body) else {
        return T::default();
    };
    fields.retain(|name, value| {
        let list = name == "fetch_resources" && value.is_array();
        value.is_string() || list
    });
    if let Some(serde_json::Value::Array(listed)) = fields.get_mut("fetch_resources") {
        listed.retain(serde_json::Value::is_string);
    }
    T::deserialize(serde_json::Value::Object(fields)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_byte_for_byte() {
        let text = r#" { "id":"a","account":{"link":"l","x":1e-7}} "#;
        let object = Object::parse(text.into()).expect("an object");
        assert_eq!(
            (object.id.as_str(), object.link_id.as_deref()),
            ("a", Some("l"))
        );
        assert_eq!(object.body, text);
    }

    #[test]
    fn what_is_no_object_says_so() {
        for text in ["", "[]", "{}", r#"{"id":7}"#, "<html>", r#"{"id":"a""#] {
            assert!(Object::parse(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn one_odd_field_does_not_hide_the_others() {
        let record = LinkRecord::read(
            r#"{"status":"valid","institution":7,"last_accessed_at":null,"fetch_resources":["ACCOUNTS",1]}"#,
        );
        assert_eq!(record.status.as_deref(), Some("valid"));
        assert_eq!((record.institution, record.last_accessed_at), (None, None));
        assert_eq!(record.fetch_resources, Some(vec!["ACCOUNTS".to_owned()]));
        assert_eq!(LinkRecord::read("[]"), LinkRecord::default());
    }
}
