//! Asking Belvo's API for one page of a listing. [`Api`] is the one method that tests replace; everything else about the
//! network is behind it. Knows pages and errors, not why they are asked for or where the objects go.

mod client;
mod error;
mod page;

use std::future::Future;

pub use client::{Client, Keys, SetupError, Target, roots_from};
pub use error::{Cause, Class, Error};
pub use page::{Item, Page};

/// What to list: one resource of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The list's path, from the catalog.
    pub path: &'static str,
    /// The link, a UUID.
    pub link_id: String,
}

/// One page in, one answer out.
pub trait Api: Send + Sync + 'static {
    /// Fetches page `page` (the first is 1) of `page_size` objects.
    ///
    /// # Errors
    /// When there is no answer, or none that is a page.
    fn page(
        &self,
        query: &Query,
        page: u32,
        page_size: u32,
    ) -> impl Future<Output = Result<Page, Error>> + Send;
}
