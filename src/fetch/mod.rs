//! Asking Belvo's API for one page of a listing, or for one object. [`Api`] is the one method that tests replace;
//! everything else about the network is behind it. Knows pages, records and errors, not why they are asked for or where
//! the objects go.

mod client;
mod codes;
mod error;
mod keys;
mod page;
mod record;

use std::future::Future;

#[cfg(feature = "acme")]
pub(crate) use client::connector;
pub use client::{Client, Keys, Roots, SetupError, Target, retry_after, roots_from, system_roots};
pub use codes::{CODES, Code};
pub use error::{Cause, Class, Error};
pub use keys::{Access, KeyFiles};
pub use page::{Item, Page};
pub use record::{ConsentRecord, LinkRecord, Object};

use crate::limits::{ANSWER_BYTES_MAX, LIST_BYTES_MAX};

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The list's path.
    pub path: String,
    /// The link, a UUID; none for the list of all links.
    pub link_id: Option<String>,
    /// Only what was created on this UTC day or later, as `2026-11-23`.
    pub created_from: Option<String>,
}

/// One GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, without the host and the query.
    pub path: String,
    /// The query's names and values.
    pub query: Vec<(&'static str, String)>,
    /// The page; 0 when it is no listing.
    pub page: u32,
    /// What a larger answer is too large for.
    pub bytes_max: usize,
}

/// One request in, one answer out.
pub trait Api: Send + Sync + 'static {
    /// Waits until it makes sense to ask: a certificate cannot be judged by a clock that was not set yet.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The whole body of an answer that is a success.
    ///
    /// # Errors
    /// When there is no answer, or one that says no.
    fn get(&self, request: &Request) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;
}

/// Fetches page `number` (the first is 1) of `page_size` objects.
///
/// # Errors
/// When there is no answer, or none that is a page.
pub async fn page(api: &impl Api, list: &List, number: u32, page_size: u32) -> Result<Page, Error> {
    let mut query = Vec::with_capacity(4);
    query.extend(list.link_id.clone().map(|link| ("link", link)));
    query.extend(
        list.created_from
            .clone()
            .map(|day| ("created_at__gte", day)),
    );
    query.push(("page", number.to_string()));
    query.push(("page_size", page_size.to_string()));
    let request = Request {
        path: list.path.clone(),
        query,
        page: number,
        bytes_max: match page_size {
            ..=1 => ANSWER_BYTES_MAX,
            _ => LIST_BYTES_MAX,
        },
    };
    let body = api.get(&request).await?;
    Page::parse(body).map_err(|text| Error::new(&list.path, number, Cause::NotAsExpected(text)))
}

/// Fetches the one object at a path.
///
/// # Errors
/// When there is no answer, or none that is an object with an id.
pub async fn object(api: &impl Api, path: &str) -> Result<Object, Error> {
    let request = Request {
        path: path.to_owned(),
        query: Vec::new(),
        page: 0,
        bytes_max: ANSWER_BYTES_MAX,
    };
    let body = api.get(&request).await?;
    Object::parse(body).map_err(|text| Error::new(path, 0, Cause::NotAsExpected(text)))
}
