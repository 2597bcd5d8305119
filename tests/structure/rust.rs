//! Reading Rust as far as the rules of its parent need it: words without comments, tests and the content of strings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file of src/ without its comments, its tests and the content of its strings.
pub(super) struct File {
    /// Below src/, with `/`.
    pub(super) path: String,
    words: Vec<Word>,
}

/// An identifier, a number, `::`, or one sign.
#[derive(Clone)]
struct Word {
    line: usize,
    text: String,
}

impl File {
    pub(super) fn is_in(&self, place: &str) -> bool {
        self.path.starts_with(place)
    }

    /// The first place where one of `words` stands.
    pub(super) fn first<'a>(&self, words: &[&'a str]) -> Option<(usize, &'a str)> {
        words
            .iter()
            .filter_map(|word| Some((self.line_of(word)?, *word)))
            .min()
    }

    /// The first line that has `wanted`: a module or crate when it ends in `::`, otherwise these words in a row.
    pub(super) fn line_of(&self, wanted: &str) -> Option<usize> {
        if let Some(name) = wanted.strip_suffix("::") {
            let found = |(index, word): (usize, &Word)| {
                (word.text == name && self.is_named(index)).then_some(word.line)
            };
            return self.words.iter().enumerate().find_map(found);
        }
        let wanted = words(wanted);
        self.words
            .windows(wanted.len())
            .find(|found| {
                found
                    .iter()
                    .zip(&wanted)
                    .all(|(one, other)| one.text == other.text)
            })
            .map(|found| found[0].line)
    }

    /// Whether the word is a crate or a module: something follows it in its path, or a `use` or path ends with it.
    fn is_named(&self, index: usize) -> bool {
        let at = |index: Option<usize>| {
            index
                .and_then(|index| self.words.get(index))
                .map_or("", |word| &word.text)
        };
        match (at(index.checked_sub(1)), at(Some(index + 1))) {
            (".", _) => false,
            (_, "::") | ("use", _) => true,
            ("::", _) => matches!(
                at(index.checked_sub(2)),
                "crate" | "super" | "self" | "belvo_gateway"
            ),
            _ => false,
        }
    }
}

/// Every file of Rust in src/ that is not a test.
pub(super) fn source() -> Vec<File> {
    let rust = texts()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".rs"));
    read(rust.collect())
}

/// One file with this text.
pub(super) fn file(path: &str, text: &str) -> File {
    let mut files = read(vec![(path.to_owned(), text.to_owned())]);
    files.pop().expect("one file")
}

fn read(texts: Vec<(String, String)>) -> Vec<File> {
    let mut tests = BTreeSet::new();
    let mut files = Vec::new();
    for (path, text) in texts {
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            None if path == "lib.rs" => String::new(),
            _ => format!("{}/", path.trim_end_matches(".rs")),
        };
        let (words, modules) = without_tests(&words(&text));
        tests.extend(modules.iter().map(|name| format!("{folder}{name}.rs")));
        files.push(File {
            path,
            words: one_path_a_use(&words),
        });
    }
    files.retain(|file| !tests.contains(&file.path));
    files
}

/// Path below src/ and content of every file, in order.
pub(super) fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src/") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(&root).expect("below src/");
                let text = fs::read_to_string(&path).expect("a text");
                texts.push((below.to_str().expect("a plain name").to_owned(), text));
            }
        }
    }
    texts.sort();
    texts
}

/// The words of a piece of Rust.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let length = match sign {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => string(rest),
            '\'' => character_or_lifetime(rest),
            _ if sign.is_alphanumeric() || sign == '_' => {
                let end = rest.find(|sign: char| !sign.is_alphanumeric() && sign != '_');
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                let content = literal(name, after);
                if content == 0 {
                    words.push(Word {
                        line,
                        text: name.to_owned(),
                    });
                }
                name.len() + content
            }
            _ if sign.is_whitespace() => sign.len_utf8(),
            _ => {
                let length = if rest.starts_with("::") {
                    2
                } else {
                    sign.len_utf8()
                };
                words.push(Word {
                    line,
                    text: rest[..length].to_owned(),
                });
                length
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    words
}

/// How long a block comment is, with those in it.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// How long a string is that begins with its quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> usize {
    let mut signs = text.char_indices().skip(1);
    match (signs.next(), signs.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            text[after..]
                .find('\'')
                .map_or(text.len(), |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// How long the string or byte is that follows its prefix: nothing when `prefix` is a word of its own.
fn literal(prefix: &str, after: &str) -> usize {
    match prefix {
        "b" | "c" if after.starts_with('"') => string(after),
        "b" if after.starts_with('\'') => character_or_lifetime(after),
        "r" | "br" | "cr" => {
            let hashes = after.len() - after.trim_start_matches('#').len();
            if !after[hashes..].starts_with('"') {
                return 0;
            }
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 1;
            after[body..]
                .find(&end)
                .map_or(after.len(), |at| body + at + end.len())
        }
        _ => 0,
    }
}

/// The words without items marked `#[cfg(test)]`, and the modules in files of their own among these.
fn without_tests(words: &[Word]) -> (Vec<Word>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        let marked = rest.len() >= MARK.len()
            && rest
                .iter()
                .zip(MARK)
                .all(|(word, wanted)| word.text == wanted);
        if !marked {
            kept.push(first.clone());
            rest = after;
            continue;
        }
        let item = &rest[MARK.len()..];
        let (item, after) = item.split_at(item_length(item));
        if let [.., module, name, end] = item
            && module.text == "mod"
            && end.text == ";"
        {
            modules.push(name.text.clone());
        }
        rest = after;
    }
    (kept, modules)
}

/// Up to the `;` or the closing brace that ends an item.
fn item_length(words: &[Word]) -> usize {
    let mut depth = 0;
    for (index, word) in words.iter().enumerate() {
        match word.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(word.text.as_str(), ";" | "}") {
            return index + 1;
        }
    }
    words.len()
}

/// `use a::{b, c::d};` becomes `use a::b; use a::c::d;`.
fn one_path_a_use(words: &[Word]) -> Vec<Word> {
    let mut plain = Vec::new();
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        // `use<'a>` in a type is something else.
        let end = after.iter().position(|word| word.text == ";");
        match end {
            Some(end) if first.text == "use" && after[0].text != "<" => {
                for mut path in paths(&after[..end]) {
                    plain.push(first.clone());
                    plain.append(&mut path);
                    plain.push(after[end].clone());
                }
                rest = &after[end..];
            }
            _ => {
                plain.push(first.clone());
                rest = after;
            }
        }
    }
    plain
}

fn paths(tree: &[Word]) -> Vec<Vec<Word>> {
    let Some(open) = tree.iter().position(|word| word.text == "{") else {
        return vec![tree.to_vec()];
    };
    let (before, inner) = (&tree[..open], &tree[open + 1..tree.len() - 1]);
    let mut depth = 0;
    let branches = inner.split(|word| {
        match word.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && word.text == ","
    });
    branches
        .filter(|branch| !branch.is_empty())
        .flat_map(paths)
        .map(|path| [before, &path].concat())
        .collect()
}

#[test]
fn comments_strings_and_tests_are_not_read() {
    let text = r####"
        //! rusqlite::Connection
        /* outer /* rusqlite:: */ rusqlite:: */
        const A: &str = "rusqlite::\"rusqlite::";
        const B: &str = r#"rusqlite:: "rusqlite:: "#;
        const C: (char, char, u8) = ('"', '\'', b'"');
        fn d<'a>(e: &'a str) -> &'a str { e }
        #[cfg(test)]
        #[expect(dead_code)]
        mod tests { use rusqlite::Connection; fn f() { { rusqlite::g() } } }
        #[cfg(test)]
        use rusqlite::{Row, params};
        fn last() { h::i() }
    "####;
    let file = file("a.rs", text);
    assert_eq!(file.line_of("rusqlite::"), None);
    assert_eq!(file.line_of("h::i()"), Some(13));
}

#[test]
fn a_test_in_a_file_of_its_own_is_not_read() {
    let files = read(vec![
        ("a/mod.rs".to_owned(), "#[cfg(test)] mod tests;".to_owned()),
        ("a/tests.rs".to_owned(), "use rusqlite::Row;".to_owned()),
    ]);
    assert_eq!(files.len(), 1);
}

#[test]
fn a_name_is_found_however_it_is_written() {
    for text in [
        "use crate::drain;",
        "use crate::drain::plan;",
        "use crate::{catalog, drain};",
        "use super::{a::{b, c}, drain::{self, plan}};",
        "pub use crate::drain as pump;",
        "fn f() { crate::drain::plan() }",
        "fn f(plan: &drain::Plan) {}",
        "#[derive(drain::Plan)] struct A;",
        "m! { drain::Plan }",
    ] {
        assert!(file("a.rs", text).line_of("drain::").is_some(), "{text}");
    }
    for text in [
        "fn drain(drain: Drain) { a.drain(..); self.drain; a.drain::<B>() }",
        "use crate::drained::plan;",
        "mod drain;",
    ] {
        assert_eq!(file("a.rs", text).line_of("drain::"), None, "{text}");
    }
    assert!(
        file("a.rs", "a\n .unwrap();")
            .line_of(".unwrap()")
            .is_some()
    );
    assert!(
        file("a.rs", "use std::{fs::File, io};")
            .line_of("std::fs")
            .is_some()
    );
}
