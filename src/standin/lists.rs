//! The objects that the stand-in holds, by list path and link, as the JSON text they were put in with. It knows nothing
//! of HTTP or paging, and reads no more of an object than its id and the day it was created.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::declared::split;
use super::objects::{ConsentRecord, LinkRecord};

/// Every list and what is in it, in the order it was put in.
#[derive(Debug, Default)]
pub struct Lists {
    lists: BTreeMap<String, Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    link: String,
    id: String,
    created_on: Option<String>,
    text: Arc<str>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    id: String,
    created_at: Option<String>,
}

impl Lists {
    /// Makes `objects`, each a JSON text, all that `link` has in the list at `path`. A list that Belvo's description does
    /// not have is never answered.
    pub fn put(&mut self, path: &str, link: &str, objects: Vec<String>) {
        let entries = self.lists.entry(path.to_owned()).or_default();
        entries.retain(|entry| entry.link != link);
        self.add(path, link, objects);
    }

    /// Appends `objects` to what `link` has in the list at `path`.
    pub fn add(&mut self, path: &str, link: &str, objects: Vec<String>) {
        let entries = self.lists.entry(path.to_owned()).or_default();
        entries.extend(objects.into_iter().map(|text| Entry::new(link, &text)));
    }

    /// Makes this the record of its link.
    pub fn put_link(&mut self, record: &LinkRecord) {
        self.put("/api/links/", &record.id, vec![record.text()]);
    }

    /// Makes this the record of the consent of its link.
    pub fn put_consent(&mut self, record: &ConsentRecord) {
        self.put("/api/consents/", &record.link, vec![record.text()]);
    }

    /// Takes the object with this id out of the list at `path`, and says whether it was there.
    pub fn remove(&mut self, path: &str, id: &str) -> bool {
        let Some(entries) = self.lists.get_mut(path) else {
            return false;
        };
        let before = entries.len();
        entries.retain(|entry| entry.id != id);
        entries.len() < before
    }

    /// Erases everything of a link, as Belvo does when it is deleted.
    pub fn delete_link(&mut self, link: &str) {
        for entries in self.lists.values_mut() {
            entries.retain(|entry| entry.link != link);
        }
    }

    /// The objects of `link` in the list at `path`, as they were put in.
    pub fn objects(&self, path: &str, link: &str) -> Vec<String> {
        self.matching(path, Some(link), None)
            .iter()
            .map(|text| text.to_string())
            .collect()
    }

    pub(super) fn matching(
        &self,
        path: &str,
        link: Option<&str>,
        created_from: Option<&str>,
    ) -> Vec<Arc<str>> {
        let entries = self.lists.get(path).map_or(&[][..], Vec::as_slice);
        let of_link = entries
            .iter()
            .filter(|entry| link.is_none_or(|link| entry.link == link));
        let recent = of_link.filter(|entry| entry.created_since(created_from));
        recent.map(|entry| Arc::clone(&entry.text)).collect()
    }

    /// The object that is shown at `path`.
    pub(super) fn detail(&self, path: &str) -> Option<Arc<str>> {
        let (list, id) = split(path)?;
        let mut entries = self.lists.get(list)?.iter();
        let found = entries.find(|entry| entry.id == id && !id.is_empty())?;
        Some(Arc::clone(&found.text))
    }
}

impl Entry {
    /// An object that is no JSON, or has no id, is listed all the same: what a gateway does with it is worth a test.
    fn new(link: &str, text: &str) -> Self {
        let head = serde_json::from_str(text).unwrap_or(Head {
            id: String::new(),
            created_at: None,
        });
        let created_on = head.created_at.map(|at| at.chars().take(10).collect());
        Self {
            link: link.to_owned(),
            id: head.id,
            created_on,
            text: text.into(),
        }
    }

    fn created_since(&self, day: Option<&str>) -> bool {
        match (day, &self.created_on) {
            (Some(day), Some(created_on)) => created_on.as_str() >= day,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_links() -> Lists {
        let mut lists = Lists::default();
        lists.put(
            "/api/bills/",
            "one",
            vec![r#"{ "id":"a","created_at":"2026-11-20T23:59:59Z"}"#.into()],
        );
        lists.put(
            "/api/bills/",
            "two",
            vec![r#"{"id":"b","amount":1e-7}"#.into(), "7".into()],
        );
        lists
    }

    #[test]
    fn an_object_is_answered_as_it_was_put_in() {
        let lists = two_links();
        assert_eq!(
            lists.objects("/api/bills/", "two"),
            [r#"{"id":"b","amount":1e-7}"#, "7"]
        );
        assert_eq!(
            lists.detail("/api/bills/b/").as_deref(),
            Some(r#"{"id":"b","amount":1e-7}"#)
        );
        assert_eq!(lists.detail("/api/bills/c/"), None);
        assert_eq!(lists.detail("/api/bills/"), None);
    }

    #[test]
    fn a_link_and_a_day_narrow_a_list() {
        let lists = two_links();
        assert_eq!(lists.matching("/api/bills/", None, None).len(), 3);
        assert_eq!(
            lists
                .matching("/api/bills/", Some("one"), Some("2026-11-20"))
                .len(),
            1
        );
        assert_eq!(
            lists
                .matching("/api/bills/", Some("one"), Some("2026-11-21"))
                .len(),
            0
        );
    }

    #[test]
    fn putting_again_replaces_and_adding_appends() {
        let mut lists = two_links();
        lists.put("/api/bills/", "two", vec![r#"{"id":"c"}"#.into()]);
        lists.add("/api/bills/", "two", vec![r#"{"id":"d"}"#.into()]);
        assert_eq!(
            lists.objects("/api/bills/", "two"),
            [r#"{"id":"c"}"#, r#"{"id":"d"}"#]
        );
        assert!(lists.remove("/api/bills/", "c"));
        assert!(!lists.remove("/api/bills/", "c"));
    }
    #[test]
    fn a_deleted_link_leaves_nothing_behind() {
        let mut lists = two_links();
        lists.put("/api/links/", "two", vec![r#"{"id":"two"}"#.into()]);
        lists.delete_link("two");
        assert_eq!(lists.detail("/api/links/two/"), None);
        assert!(lists.objects("/api/bills/", "two").is_empty());
        assert_eq!(lists.objects("/api/bills/", "one").len(), 1);
    }
}
