//! Every fuzz target's body, with inputs near its seeds: what the fuzzer looks for at length, each test run looks for a
//! little. `fuzz/run SECONDS` is the long way.

#[path = "../fuzz/bodies.rs"]
#[expect(
    unreachable_pub,
    reason = "the fuzz targets call them from another crate"
)]
mod bodies;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Inputs that a test run puts to each target besides the seeds.
const INPUTS: u32 = 2_000;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("authorization", bodies::authorization),
    ("configuration", bodies::configuration),
    ("envelope", bodies::envelope),
    ("forwarded", bodies::forwarded),
    ("heads", bodies::heads),
    ("page", bodies::page),
    ("proxy_line", bodies::proxy_line),
    ("retry_after", bodies::retry_after),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(fuzz().join("seeds").join(target)).expect("a directory of seeds");
    let mut paths: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("a seed"))
        .collect()
}

/// One change to an input.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    /// What another input has from somewhere on comes here.
    Cross(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    // What framing, numbers and nesting are made of, beside any byte.
    let telling = prop::sample::select(b"\r\n\0 \t:;,\"{}[]0179afx/#=\x7f\xff".to_vec());
    let byte = prop_oneof![any::<u8>(), telling];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<Index>(), prop::collection::vec(byte, 1..8))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Change::Cut(at, count)),
        any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Change::Cross(at, other, from)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change], seeds: &[Vec<u8>]) -> Vec<u8> {
    for change in changes {
        let within = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match change {
            Change::Put(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Put(..) => {}
            Change::Insert(at, more) => {
                let at = within(at, &bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Cut(at, count) => {
                let at = within(at, &bytes);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Change::Cross(at, other, from) => {
                let (other, at) = (other.get(seeds), within(at, &bytes));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[within(from, other)..]);
            }
        }
    }
    bytes
}

fn holds(target: &str) {
    let (_, body) = TARGETS
        .iter()
        .find(|known| known.0 == target)
        .expect("a target");
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| body(seed));
    let inputs = (any::<Index>(), prop::collection::vec(change(), 0..6));
    let config = Config {
        cases: INPUTS,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&inputs, |(seed, changes)| {
        body(&changed(seed.get(&seeds).clone(), &changes, &seeds));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn whatever_a_connection_brings_is_answered_as_documented() {
    holds("heads");
}

#[test]
fn a_proxy_line_is_the_same_whatever_follows_it() {
    holds("proxy_line");
}

#[test]
fn what_the_last_proxy_says_counts_whatever_was_said_before() {
    holds("forwarded");
}

#[test]
fn a_header_is_ours_when_it_equals_a_configured_value_and_stands_alone() {
    holds("authorization");
}

#[test]
fn a_webhook_is_kept_byte_for_byte_or_refused_with_its_bytes() {
    holds("envelope");
}

#[test]
fn an_answer_of_the_api_is_objects_with_ids_or_an_error() {
    holds("page");
}

#[test]
fn any_retry_after_is_a_time_or_nothing() {
    holds("retry_after");
}

#[test]
fn any_configuration_is_settings_or_an_error_with_its_file() {
    holds("configuration");
}

#[test]
fn every_fuzz_target_has_seeds_and_is_put_to_the_test_here() {
    let names = |directory: &str| -> BTreeSet<String> {
        let files = fs::read_dir(fuzz().join(directory)).expect("a directory");
        files
            .map(|file| file.expect("a file").path())
            .map(|path| {
                path.file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let ours: BTreeSet<_> = TARGETS.iter().map(|target| target.0.to_owned()).collect();
    assert_eq!(names("fuzz_targets"), ours);
    assert_eq!(names("seeds"), ours);
    let this = include_str!("fuzzed.rs");
    assert!(
        ours.iter()
            .all(|target| this.contains(&format!("holds(\"{target}\")")))
    );
}
