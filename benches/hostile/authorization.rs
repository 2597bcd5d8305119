//! Whether the time of a 401 tells how much of a wrong `Authorization` value was right: one that differs in its first byte
//! beside one that differs in its last, taking turns.

use std::time::{Duration, Instant};

use belvo_gateway::intake::auth::Authorization;
use belvo_gateway::system::secret::Secret;

/// As long as a token of 256 bits.
const VALUE: &str = "Bearer 5f1d8a4c0b7e93265f1d8a4c0b7e93265f1d8a4c0b7e93265f1d8a4c0b7e9326";
/// Of each.
const TRIES: usize = 100_000;
/// Comparisons in one try: one alone is shorter than a look at the clock.
const AT_ONCE: usize = 100;

pub(crate) fn measure() {
    let ours = Authorization::new(vec![Secret::new(VALUE.to_owned())]);
    let (first, last) = (
        format!("X{}", &VALUE[1..]),
        format!("{}X", &VALUE[..VALUE.len() - 1]),
    );
    let mut took = [
        Vec::with_capacity(TRIES),
        Vec::with_capacity(TRIES),
        Vec::with_capacity(TRIES),
    ];
    // The third is the second once more: what the machine alone makes of it.
    for number in 0..TRIES {
        for turn in 0..took.len() {
            let which = (number + turn) % took.len();
            let wrong = [&first, &last, &last][which];
            took[which].push(one(&ours, wrong.as_bytes()));
        }
    }
    let [first, last, again] = took.map(median);
    println!("Wrong Authorization, {TRIES} tries each of {AT_ONCE} comparisons, medians\n");
    println!("| differs in its | ns |\n| -------------- | -: |");
    for (name, time) in [
        ("first byte", first),
        ("last byte", last),
        ("last byte, again", again),
    ] {
        println!(
            "| {name} | {:.2} |",
            time.as_nanos() as f64 / AT_ONCE as f64
        );
    }
    println!();
}

fn one(ours: &Authorization, wrong: &[u8]) -> Duration {
    let begun = Instant::now();
    for _ in 0..AT_ONCE {
        std::hint::black_box(ours.judge(std::iter::once(std::hint::black_box(wrong))));
    }
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
