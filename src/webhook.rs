//! What a delivery is: the bytes of one request with its time and peer, and the envelope that is parsed from them.
//! Pure: no I/O, no clock, no SQL; knows neither how a delivery arrives nor what it leads to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::system::clock::UnixMs;

/// One request that Belvo sent us, as received.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When its body was complete, by the wall clock.
    pub received_at: UnixMs,
    /// Whether that clock can be right.
    pub clock_trusted: bool,
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
}

impl Envelope {
    /// Reads the envelope of a journalled body. A key that occurs twice counts with its last value.
    ///
    /// # Errors
    /// When the text is not a JSON object, which [`Body::parse`] makes impossible for what we journalled ourselves.
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(body).map_err(|_| Malformed::NotAnObject)?;
        let text = |name: &str| serde_json::from_str::<String>(fields.get(name)?.get()).ok();
        Ok(Self {
            webhook_id: text("webhook_id"),
            kind: text("webhook_type"),
            code: text("webhook_code"),
            process_type: text("process_type"),
            link_id: text("link_id"),
            external_id: text("external_id"),
            request_id: text("request_id"),
            object_id: text("object_id"),
        })
    }
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
