//! One answer of the API -> its objects, as the bytes Belvo sent, and whether there is another page. Pure. No tree of the
//! objects is built, and no number in them is looked at.

use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::limits::ID_BYTES_MAX;

/// A page of objects.
#[derive(Debug)]
pub struct Page {
    text: String,
    items: Vec<Found>,
    /// How many objects the whole listing has, by Belvo's word.
    pub count: u64,
    /// Whether there is another page. The text of `next` is not used: we count pages ourselves.
    pub more: bool,
    /// Objects without a usable id; they cannot be kept by id.
    pub without_id: u64,
}

/// An object's id, the link it names, and where its bytes are.
#[derive(Debug)]
struct Found {
    id: String,
    link_id: Option<String>,
    range: Range<usize>,
}

/// An object of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The value of `id`.
    pub id: &'a str,
    /// The link that the object itself names, directly or through its account.
    pub link_id: Option<&'a str>,
    /// The whole object.
    pub body: &'a str,
}

#[derive(Deserialize)]
struct Listing<'a> {
    count: u64,
    next: Option<IgnoredAny>,
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow, default)]
    link: Option<&'a RawValue>,
    #[serde(borrow, default)]
    account: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Account<'a> {
    #[serde(borrow)]
    link: &'a RawValue,
}

impl Page {
    /// Reads an answer's body.
    ///
    /// # Errors
    /// When it is not the envelope of a listing; says what was expected and where, without any of its bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let text = text_of(bytes)?;
        let listing: Listing<'_> = serde_json::from_str(&text).map_err(|error| describe(&error))?;
        let mut items = Vec::with_capacity(listing.results.len());
        for object in &listing.results {
            let start = object.get().as_ptr() as usize - text.as_ptr() as usize;
            items.extend(head_of(object.get()).map(|(id, link_id)| Found {
                id,
                link_id,
                range: start..start + object.get().len(),
            }));
        }
        let (count, more) = (listing.count, listing.next.is_some());
        let without_id = (listing.results.len() - items.len()) as u64;
        Ok(Self {
            items,
            count,
            more,
            without_id,
            text,
        })
    }

    /// The objects that have an id, in Belvo's order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Item<'_>> {
        self.items.iter().map(|found| Item {
            id: &found.id,
            link_id: found.link_id.as_deref(),
            body: &self.text[found.range.clone()],
        })
    }

    /// Bytes of the whole answer.
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64
    }
}

/// The text of an answer's body.
pub(super) fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// The id of an object and the link it names: `link`, or the `link` of its `account` (docs/belvo.md, Lists).
pub(super) fn head_of(object: &str) -> Option<(String, Option<String>)> {
    let head: Head<'_> = serde_json::from_str(object).ok()?;
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    let id = text(head.id).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))?;
    let of_account = || {
        let account: Account<'_> = serde_json::from_str(head.account?.get()).ok()?;
        text(account.link)
    };
    let link = head.link.and_then(text).or_else(of_account);
    Some((id, link.filter(|link| link.len() <= ID_BYTES_MAX)))
}

/// serde_json quotes values it did not expect, and those may be somebody's data; the kind and place are enough.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => {
            "count, next or results are missing or of another type"
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{what} (line {} column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Page, String> {
        Page::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn objects_are_kept_byte_for_byte() {
        let object =
            r#"{ "amount": 12345678901234.560, "tiny":1e-7, "id" : "a\u0062", "x":{"id":"no"} }"#;
        let page = parse(&format!(
            r#"{{"count":1,"next":null,"previous":null,"results":[ {object} ]}}"#
        ))
        .expect("a page");
        assert_eq!(
            page.items().collect::<Vec<_>>(),
            [Item {
                id: "ab",
                link_id: None,
                body: object
            }]
        );
        assert!(!page.more);
    }

    #[test]
    fn the_link_of_an_object_is_its_own_or_that_of_its_account() {
        let page = parse(
            r#"{"count":4,"next":null,"results":[{"id":"a","link":"l"},{"id":"b","account":{"link":"m"},"link":null},
                {"id":"c","account":null},{"id":"d","account":"x","link":7}]}"#,
        )
        .expect("a page");
        let links: Vec<_> = page.items().map(|item| item.link_id).collect();
        assert_eq!(links, [Some("l"), Some("m"), None, None]);
    }

    #[test]
    fn an_object_without_a_usable_id_is_counted_and_left_out() {
        let page = parse(
            r#"{"count":5,"next":"x","results":[{},{"id":null},{"id":7},{"id":""},{"id":"a"}]}"#,
        )
        .expect("a page");
        assert_eq!(
            (page.items().len(), page.without_id, page.more),
            (1, 4, true)
        );
    }

    #[test]
    fn what_is_not_a_listing_says_so_without_quoting_it() {
        for text in [
            "",
            "[]",
            "<html>",
            r#"{"count":"Maria"}"#,
            r#"{"count":1,"results":[{"id":"a"#,
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.starts_with("it ") || error.starts_with("count"),
                "{error}"
            );
            assert!(!error.contains("Maria"));
        }
    }

    #[test]
    fn objects_nested_deep_cost_no_stack() {
        let deep = format!(
            r#"{{"id":"a","x":{}{}}}"#,
            "[".repeat(500_000),
            "]".repeat(500_000)
        );
        let page =
            parse(&format!(r#"{{"count":1,"next":null,"results":[{deep}]}}"#)).expect("a page");
        assert_eq!(page.items().len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_page_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(page) = Page::parse(bytes) {
                prop_assert!(page.items().all(|item| !item.id.is_empty()));
            }
        }
    }
}
