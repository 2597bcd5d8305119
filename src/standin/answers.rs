//! What Belvo answers, as values: the list envelope with its pages, an object, and the errors in Belvo's words. Pure; it
//! does not know why an answer was chosen or how it is sent.

use std::fmt::Write as _;
use std::sync::Arc;

use super::edge::Query;

/// The firewall's page, which is not Belvo's JSON.
const FORBIDDEN: &str = "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n\
    <center><h1>403 Forbidden</h1></center>\r\n<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n";

const JSON: &str = "application/json";
const HTML: &str = "text/html";

/// One answer before it is bytes on a connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) header: Option<(&'static str, String)>,
    pub(super) text: Text,
    /// Objects in this page, and in all pages.
    pub(super) objects: usize,
    pub(super) total: usize,
}

/// The body of an answer, and whether it ends as it should.
#[derive(Debug)]
pub(super) enum Text {
    Whole(String),
    /// Announced whole, but the connection ends half way.
    Cut(String),
    /// One object after the other, without an end.
    Endless,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, text: String) -> Self {
        Self {
            status,
            content_type,
            header: None,
            text: Text::Whole(text),
            objects: 0,
            total: 0,
        }
    }

    /// An error in Belvo's form: an array with one object.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, JSON, error_body(code, message, None))
    }

    /// The 400 for a required query parameter that is missing.
    pub(super) fn required(field: &str) -> Self {
        Self::new(
            400,
            JSON,
            error_body("required", "This field is required.", Some(field)),
        )
    }

    /// The 428 for a link whose institution wants a token of its user.
    pub(super) fn token_required(link: &str) -> Self {
        let (session, request_id) = (fastrand::u128(..), fastrand::u128(..));
        let link = quoted(link);
        let body = format!(
            r#"[{{"code":"token_required","message":"A MFA token is required by the institution to login","request_id":"{request_id:032x}","session":"{session:032x}","expiry":9900,"link":{link},"token_generation_data":{{"instructions":"Use this code to generate the token","type":"numeric","value":"12345","expects_user_input":false}}}}]"#
        );
        Self::new(428, JSON, body)
    }

    /// For a filter that Belvo has and this does not: an answer that ignored it would be a lie.
    pub(super) fn not_played(filter: &str) -> Self {
        let message = format!("The stand-in does not play the filter {filter}.");
        Self::error(501, "not_played", &message)
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "not_found", "Not found")
    }

    pub(super) fn forbidden() -> Self {
        Self::new(403, HTML, FORBIDDEN.to_owned())
    }

    pub(super) fn throttled() -> Self {
        Self::new(429, HTML, String::new())
    }

    pub(super) fn not_json() -> Self {
        Self::new(
            200,
            HTML,
            "<html><body>We will be back soon.</body></html>".to_owned(),
        )
    }

    pub(super) fn endless() -> Self {
        Self {
            text: Text::Endless,
            ..Self::new(200, JSON, String::new())
        }
    }

    pub(super) fn redirect(location: String) -> Self {
        Self::new(302, HTML, String::new()).with("location", location)
    }

    pub(super) fn object(text: &str) -> Self {
        Self {
            objects: 1,
            total: 1,
            ..Self::new(200, JSON, text.to_owned())
        }
    }

    pub(super) fn object_in_array(text: &str) -> Self {
        Self {
            text: Text::Whole(format!("[{text}]")),
            ..Self::object(text)
        }
    }

    /// The same page with another `count`.
    pub(super) fn counted(self, count: usize) -> Self {
        let before = format!(r#"{{"count":{},"#, self.total);
        self.replaced(&before, &format!(r#"{{"count":{count},"#))
    }

    /// The same page with a `next` that leads from `base_url` to `elsewhere`; the last page has none.
    pub(super) fn leading(self, base_url: &str, elsewhere: &str) -> Self {
        let next = |url: &str| format!(r#""next":"{url}/"#);
        self.replaced(&next(base_url), &next(elsewhere))
    }

    fn replaced(self, before: &str, after: &str) -> Self {
        let text = match self.text {
            Text::Whole(text) => Text::Whole(text.replacen(before, after, 1)),
            other => other,
        };
        Self { text, ..self }
    }

    pub(super) fn with(self, name: &'static str, value: String) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub(super) fn cut(self) -> Self {
        let text = match self.text {
            Text::Whole(text) => Text::Cut(text),
            other => other,
        };
        Self { text, ..self }
    }
}

/// One page of a list at `url` (scheme, host and path); the 404 past its end.
pub(super) fn page(url: &str, query: &Query, raw_query: &str, objects: &[Arc<str>]) -> Answer {
    let pages = objects.len().div_ceil(query.page_size).max(1);
    if query.page > pages {
        return Answer::not_found();
    }
    let first = (query.page - 1) * query.page_size;
    let shown = &objects[first..objects.len().min(first + query.page_size)];
    let neighbour = |number| page_url(url, raw_query, number);
    let next = (query.page < pages).then(|| neighbour(query.page + 1));
    let previous = (query.page > 1).then(|| neighbour(query.page - 1));
    let text = envelope(objects.len(), next.as_deref(), previous.as_deref(), shown);
    Answer {
        objects: shown.len(),
        total: objects.len(),
        ..Answer::new(200, JSON, text)
    }
}

/// The same request for another page: every other parameter is carried over.
fn page_url(url: &str, raw_query: &str, number: usize) -> String {
    let kept = form_urlencoded::parse(raw_query.as_bytes()).filter(|(name, _)| name != "page");
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .extend_pairs(kept)
        .append_pair("page", &number.to_string());
    format!("{url}?{}", query.finish())
}

fn envelope(
    count: usize,
    next: Option<&str>,
    previous: Option<&str>,
    results: &[Arc<str>],
) -> String {
    let address = |url: Option<&str>| url.map_or_else(|| "null".to_owned(), quoted);
    let (next, previous) = (address(next), address(previous));
    format!(
        r#"{{"count":{count},"next":{next},"previous":{previous},"results":[{}]}}"#,
        results.join(",")
    )
}

fn error_body(code: &str, message: &str, field: Option<&str>) -> String {
    let (code, message) = (quoted(code), quoted(message));
    let mut body = format!(r#"[{{"code":{code},"message":{message}"#);
    if let Some(field) = field {
        write!(body, r#","field":{}"#, quoted(field)).expect("a String takes every write");
    }
    let request_id = fastrand::u128(..);
    write!(body, r#","request_id":"{request_id:032x}"}}]"#).expect("a String takes every write");
    body
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::declared::declared;
    use crate::standin::edge;

    const URL: &str = "https://localhost:1/api/accounts/";

    fn listed(raw_query: &str, count: usize) -> Answer {
        let objects: Vec<Arc<str>> = (0..count)
            .map(|n| format!(r#"{{"id":"{n}", "a":1.50}}"#).into())
            .collect();
        let query = declared("/api/accounts/")
            .and_then(|declared| edge::query(raw_query, &declared))
            .expect("the query is a declared one");
        page(URL, &query, raw_query, &objects)
    }

    fn text(answer: &Answer) -> &str {
        match &answer.text {
            Text::Whole(text) => text,
            _ => panic!("the body does not end"),
        }
    }

    #[test]
    fn a_page_carries_its_objects_byte_for_byte_and_the_way_on() {
        let answer = listed("page_size=2&page=2&omit=a%2Cb", 5);
        let around = |page| format!("{URL}?page_size=2&omit=a%2Cb&page={page}");
        let expected = format!(
            r#"{{"count":5,"next":"{}","previous":"{}","results":[{{"id":"2", "a":1.50}},{{"id":"3", "a":1.50}}]}}"#,
            around(3),
            around(1)
        );
        assert_eq!(text(&answer), expected);
        assert_eq!((answer.objects, answer.total), (2, 5));
    }

    #[test]
    fn the_last_page_has_no_next_and_past_it_is_nothing() {
        assert!(text(&listed("page_size=2&page=3", 5)).contains(r#""next":null"#));
        assert_eq!(listed("page_size=2&page=4", 5).status, 404);
    }

    #[test]
    fn an_empty_list_has_one_empty_page() {
        let expected = r#"{"count":0,"next":null,"previous":null,"results":[]}"#;
        assert_eq!(text(&listed("", 0)), expected);
        assert_eq!(listed("page=2", 0).status, 404);
    }

    #[test]
    fn a_page_can_lie_about_its_count_and_its_next() {
        let lying = listed("page_size=2", 5)
            .counted(7)
            .leading("https://localhost:1", "https://elsewhere.example");
        let start =
            r#"{"count":7,"next":"https://elsewhere.example/api/accounts/?page_size=2&page=2","#;
        assert!(text(&lying).starts_with(start), "{}", text(&lying));
    }

    #[test]
    fn an_error_is_an_array_with_code_message_and_request_id() {
        let answer = Answer::required("link");
        let body: serde_json::Value = serde_json::from_str(text(&answer)).expect("errors are JSON");
        assert_eq!(body[0]["code"], "required");
        assert_eq!(body[0]["field"], "link");
        assert_eq!(body[0]["request_id"].as_str().map(str::len), Some(32));
    }
}
