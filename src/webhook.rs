//! What a delivery is: the bytes of one request with its time and peer, and the envelope that is parsed from them.
//! Pure: no I/O, no clock, no SQL; knows neither how a delivery arrives nor what it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::system::clock::Stamp;

/// One request that Belvo sent us, as received.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When its body was complete.
    pub received: Stamp,
    /// Who sent it: the address after IPv4-mapped IPv6 was made IPv4.
    pub peer: IpAddr,
    /// The body, byte for byte.
    pub body: Body,
}

/// A body that may be journalled: a JSON object, or nothing at all, which is how Belvo (or an installer) tries the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(String);

/// Why a body is no webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// JSON, but a list, string, number or literal.
    #[error("the body is JSON but not an object")]
    NotAnObject,
}

impl Body {
    /// Takes bytes that are one JSON object, however deep, or empty.
    ///
    /// # Errors
    /// When they are neither; the bytes come back with the reason.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, (Malformed, Vec<u8>)> {
        let text =
            String::from_utf8(bytes).map_err(|error| (Malformed::NotUtf8, error.into_bytes()))?;
        if text.is_empty() {
            return Ok(Self(text));
        }
        // `IgnoredAny` is checked without recursion, so depth costs a byte a level and no stack.
        match serde_json::from_str::<IgnoredAny>(&text) {
            Err(_) => Err((Malformed::NotJson, text.into_bytes())),
            Ok(_) if !text.trim_start().starts_with('{') => {
                Err((Malformed::NotAnObject, text.into_bytes()))
            }
            Ok(_) => Ok(Self(text)),
        }
    }

    /// The text as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the empty body of a probe.
    pub fn is_probe(&self) -> bool {
        self.0.is_empty()
    }
}

/// The place of a delivery in the journal: only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fields every data webhook has or may have (docs/belvo.md, Payload), each `None` when it is missing, null or not a
/// string. Belvo may add, reorder and lengthen fields, so nothing else is required and no length is assumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Belvo's id of the webhook; whether it is one an event or one an attempt is not documented.
    pub webhook_id: Option<String>,
    /// `webhook_type`: the resource the event is about, in upper case.
    pub kind: Option<String>,
    /// `webhook_code`: the event, in lower case.
    pub code: Option<String>,
    /// Why the event was fired: `historical_update`, `recurrent_update`, or something newer.
    pub process_type: Option<String>,
    /// The link whose data the event is about; payments have none.
    pub link_id: Option<String>,
    /// Our own id of the link.
    pub external_id: Option<String>,
    /// Belvo's id of the request that caused the event.
    pub request_id: Option<String>,
    /// Payments name an object in place of a link.
    pub object_id: Option<String>,
    /// `eventType`, which only direct debit in Mexico has.
    pub event_type: Option<String>,
    /// `eventCode`, likewise.
    pub event_code: Option<String>,
    /// What is read of `data`.
    pub data: Data,
}

impl Envelope {
    /// Reads the envelope of a journalled body. A key that occurs twice counts with its last value.
    ///
    /// # Errors
    /// When the text is not a JSON object, which [`Body::parse`] makes impossible for what we journalled ourselves.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        let fields = fields(body).ok_or(Malformed::NotAnObject)?;
        let text = |name: &str| text(fields.get(name)?);
        Ok(Self {
            webhook_id: text("webhook_id"),
            kind: text("webhook_type"),
            code: text("webhook_code"),
            process_type: text("process_type"),
            link_id: text("link_id").map(normal),
            external_id: text("external_id"),
            request_id: text("request_id"),
            object_id: text("object_id"),
            event_type: text("eventType"),
            event_code: text("eventCode"),
            data: fields
                .get("data")
                .map(|data| Data::parse(data.get()))
                .unwrap_or_default(),
        })
    }
}

/// What is read of a webhook's `data`, an object whose fields depend on the kind of webhook and are not all documented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// Every UUID that stands in an array, each once: which field holds the ids of an update or deletion is not
    /// documented.
    pub ids: BTreeSet<String>,
    /// The codes in `errors` and `error_code`; a `-` stands for an error without a readable code.
    pub errors: BTreeSet<String>,
    /// `consent_id`, when it is a UUID.
    pub consent_id: Option<String>,
    /// `consent_due_date`.
    pub due_date: Option<String>,
    /// `institution`, by name.
    pub institution: Option<String>,
    /// `institution_display_name`.
    pub institution_display_name: Option<String>,
    /// `institution_icon_logo`.
    pub institution_icon_logo: Option<String>,
    /// All of it as received, when it is about a consent: the operator may need it for the renewal.
    pub of_consent: Option<String>,
}

impl Data {
    fn parse(raw: &str) -> Self {
        let fields = fields(raw).unwrap_or_default();
        let text = |name: &str| text(fields.get(name)?);
        let consent_id = text("consent_id").and_then(|id| uuid(&id));
        let arrays = fields.values().filter_map(|value| elements(value.get()));
        let ids = arrays
            .flatten()
            .filter_map(|element| self::text(&element))
            .filter_map(|id| uuid(&id));
        Self {
            ids: ids.collect(),
            errors: errors(&fields),
            of_consent: consent_id.is_some().then(|| raw.to_owned()),
            consent_id,
            due_date: text("consent_due_date"),
            institution: text("institution"),
            institution_display_name: text("institution_display_name"),
            institution_icon_logo: text("institution_icon_logo"),
        }
    }
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// The fields of an object, none of them looked into: `None` when it is something else.
fn fields(raw: &str) -> Option<Fields<'_>> {
    serde_json::from_str(raw).ok()
}

fn elements(raw: &str) -> Option<Vec<&RawValue>> {
    raw.starts_with('[')
        .then(|| serde_json::from_str(raw).ok())?
}

fn text(raw: &&RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A UUID as the API writes it, with dashes and in lower case, whichever way it came.
fn uuid(text: &str) -> Option<String> {
    Uuid::try_parse(text)
        .ok()
        .map(|id| id.hyphenated().to_string())
}

/// An id of a link as it is kept, however it is written.
pub fn normal(id: String) -> String {
    uuid(&id).unwrap_or(id)
}

/// The codes of what could not be retrieved. Which form `errors` has is not documented: an object, a list of objects or
/// strings, or one string.
fn errors(of: &Fields<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    found.extend(of.get("error_code").and_then(code));
    if let Some(errors) = of.get("errors") {
        let listed = elements(errors.get()).unwrap_or_else(|| vec![errors]);
        let said = listed
            .iter()
            .filter(|error| !matches!(error.get(), "null" | "{}" | "\"\""));
        found.extend(said.map(|error| code(error).unwrap_or_else(|| "-".to_owned())));
    }
    found
}

/// A code that may be shown and logged: a word of Belvo's, never a sentence that may hold somebody's data.
fn code(raw: &&RawValue) -> Option<String> {
    let word = text(raw).or_else(|| {
        let fields = fields(raw.get())?;
        text(fields.get("code").or_else(|| fields.get("error_code"))?)
    })?;
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (plain && (1..=64).contains(&word.len())).then_some(word)
}

/// The request id in bytes that may not be JSON: Belvo asks for it in the answer to a malformed body (docs/belvo.md,
/// Delivery). At most 64 letters, digits and dashes, so that it can be put into JSON as it is.
pub fn request_id_in(bytes: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"request_id\"";
    let after = bytes.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = bytes
        .get(after..)?
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start()
        .strip_prefix(b"\"")?;
    let length = rest.iter().take(65).position(|byte| *byte == b'"')?;
    let id = std::str::from_utf8(&rest[..length]).ok()?;
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (plain && !id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_is_kept_byte_for_byte() {
        let text = " {\"amount\": 12345678901234.560, \"a\":1,\"a\":2}\n";
        assert_eq!(Body::parse(text.into()).expect("an object").as_str(), text);
    }

    #[test]
    fn what_is_not_a_json_object_is_refused_with_its_reason() {
        let reason = |bytes: &[u8]| Body::parse(bytes.to_vec()).map_err(|(reason, _)| reason);
        assert_eq!(reason(b"{\"a\":"), Err(Malformed::NotJson));
        assert_eq!(reason(b"{} {}"), Err(Malformed::NotJson));
        assert_eq!(reason(b"   "), Err(Malformed::NotJson));
        assert_eq!(reason(b"\xef\xbb\xbf{}"), Err(Malformed::NotJson));
        assert_eq!(reason(b"{\"a\":\"\xff\"}"), Err(Malformed::NotUtf8));
        assert_eq!(reason(b"[1]"), Err(Malformed::NotAnObject));
        assert_eq!(reason(b"null"), Err(Malformed::NotAnObject));
    }

    #[test]
    fn a_body_nested_as_deep_as_a_body_can_be_costs_no_stack() {
        let deep = format!(
            "{{\"data\":{}{}}}",
            "[".repeat(500_000),
            "]".repeat(500_000)
        );
        let body = Body::parse(deep.into_bytes()).expect("valid JSON");
        assert_eq!(
            Envelope::parse(body.as_str()).expect("an envelope"),
            Envelope::default()
        );
    }

    #[test]
    fn an_envelope_takes_what_it_finds_and_minds_nothing_else() {
        let envelope = Envelope::parse(
            r#"{"webhook_type":"X","webhook_type":"ACCOUNTS","webhook_code":7,"link_id":null,"external_id":"é\u0041","new":{"a":[]}}"#,
        )
        .expect("an envelope");
        assert_eq!(envelope.kind.as_deref(), Some("ACCOUNTS"));
        assert_eq!((envelope.code, envelope.link_id), (None, None));
        assert_eq!(envelope.external_id.as_deref(), Some("éA"));
    }

    fn data(text: &str) -> Data {
        Envelope::parse(&format!(r#"{{"data":{text}}}"#))
            .expect("an envelope")
            .data
    }

    #[test]
    fn ids_are_taken_from_any_array_in_either_form_and_each_once() {
        let read = data(
            r#"{"count":2,"whatever":["16F68516-BCBC-4CF7-B815-C500D4204E28",7,null,"no id",["x"]],
                "ids":["16f68516bcbc4cf7b815c500d4204e28","aadf41a1-fc8e-4f79-a49f-7f04027ac999"],"consent_id":"x"}"#,
        );
        assert_eq!(
            Vec::from_iter(read.ids),
            [
                "16f68516-bcbc-4cf7-b815-c500d4204e28",
                "aadf41a1-fc8e-4f79-a49f-7f04027ac999"
            ]
        );
        assert_eq!(read.consent_id, None);
    }

    #[test]
    fn what_could_not_be_retrieved_is_found_in_each_form_it_may_have() {
        let codes = |text: &str| Vec::from_iter(data(text).errors);
        assert_eq!(codes(r#"{"error_code":"login_error"}"#), ["login_error"]);
        assert_eq!(
            codes(r#"{"errors":[{"code":"a"},"b",{"error_code":"c"},{"message":"Maria"}]}"#),
            ["-", "a", "b", "c"]
        );
        assert_eq!(
            codes(r#"{"errors":{"code":"institution_down"}}"#),
            ["institution_down"]
        );
        for none in [
            r#"{"errors":[]}"#,
            r#"{"errors":null}"#,
            r#"{"errors":{}}"#,
            "{}",
            "7",
        ] {
            assert_eq!(codes(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn what_a_renewal_needs_is_kept_as_it_came() {
        let text = r#"{"consent_id":"9e763d19-15a4-410c-a106-18c0f60ca5eb", "action":"renew","consent_due_date":"2026-12-26T10:45:58.000Z"}"#;
        let read = data(text);
        assert_eq!(read.of_consent.as_deref(), Some(text));
        assert_eq!(read.due_date.as_deref(), Some("2026-12-26T10:45:58.000Z"));
    }

    #[test]
    fn a_link_is_known_by_one_spelling() {
        let envelope = Envelope::parse(r#"{"link_id":"16F68516BCBC4CF7B815C500D4204E28"}"#);
        assert_eq!(
            envelope.expect("an envelope").link_id.as_deref(),
            Some("16f68516-bcbc-4cf7-b815-c500d4204e28")
        );
    }

    #[test]
    fn a_request_id_is_found_in_broken_json() {
        assert_eq!(
            request_id_in(b"{\"request_id\" : \"4363b08b-51eb\", oops"),
            Some("4363b08b-51eb")
        );
        assert_eq!(request_id_in(b"{\"request_id\":\"a\\\"b\""), None);
        assert_eq!(request_id_in(b"{\"request_id\":\""), None);
        assert_eq!(request_id_in(b"{\"request_id\":\"\"}"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_either_a_body_or_come_back_whole(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            match Body::parse(bytes.clone()) {
                Ok(body) => prop_assert_eq!(body.as_str().as_bytes(), &bytes[..]),
                Err((_, back)) => prop_assert_eq!(back, bytes),
            }
        }

        #[test]
        fn every_body_has_an_envelope(text in r#"\{("[a-z_]{1,12}":("[^"\\\x00-\x1f]*"|[0-9]{1,9}|null|\[\]),?){0,4}\}"#) {
            if let Ok(body) = Body::parse(text.into_bytes()) {
                prop_assert!(Envelope::parse(body.as_str()).is_ok());
            }
        }

        #[test]
        fn a_found_request_id_can_be_put_into_json(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut text = b"\"request_id\":\"".to_vec();
            text.extend(bytes);
            if let Some(id) = request_id_in(&text) {
                prop_assert!(id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            }
        }
    }
}
