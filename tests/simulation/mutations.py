#!/usr/bin/env python3
"""Breaks one rule of the gateway's second half after the other, and runs the simulation each time: it must fail. All
that breaks a rule is written into one copy of the checkout and built once; the variable MUTATION says which rule is broken.
Run as `python3 tests/simulation/mutations.py [NAME ...]`. MUTATIONS_DIR=DIR keeps the copy, and what was built unless
CARGO_TARGET_DIR says where, for a quicker second run."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SEEDS = 1500
# With no rule broken, to show that the copy is as good as the checkout.
SEEDS_UNBROKEN = 100

# Name, and what is written in place of what, with MUTATED for "when this rule is to be broken"; each text stands exactly
# once in its file.
MUTATIONS = {
    "a webhook that came during a fetch counts as met": [
        (
            "src/drain/work.rs",
            "self.fetched = self.fetched.max(met);",
            "self.fetched = if MUTATED { self.wanted } else { self.fetched.max(met) };",
        ),
    ],
    "a fetch that was running brings a deleted object back": [
        ("src/store/objects.rs", "by >= record.seq.0", "!MUTATED && by >= record.seq.0"),
        (
            "src/store/objects.rs",
            "params![resource, id, seq.0, now.0]",
            "params![resource, id, if MUTATED { i64::MAX } else { seq.0 }, now.0]",
        ),
    ],
    "a listing that moved is taken for complete": [
        (
            "src/drain/listing.rs",
            "!self.cut_short && self.counts.len() == 1 && self.counts.contains(&seen)",
            "MUTATED || !self.cut_short && self.counts.len() == 1 && self.counts.contains(&seen)",
        ),
    ],
    "what is new is asked for although the whole list is wanted": [
        (
            "src/drain/work.rs",
            "if self.whole <= self.fetched && whole_is_recent",
            "if (MUTATED || self.whole <= self.fetched) && whole_is_recent",
        ),
    ],
    "what is new is asked for from too late a day": [
        (
            "src/drain/work.rs",
            "Extent::Since(at.minus(NEW_OVERLAP))",
            "Extent::Since(if MUTATED { at.plus(NEW_OVERLAP) } else { at.minus(NEW_OVERLAP) })",
        ),
    ],
    "a blocked link stays blocked when its data comes": [
        (
            "src/drain/links.rs",
            "(Some(Status::Valid), Said::Works(_)) =>",
            "(Some(status), Said::Works(_)) if MUTATED || status == Status::Valid =>",
        ),
    ],
    "a request costs a twentieth of a token": [
        (
            "src/drain/budget.rs",
            "bucket.tokens -= 1.0;",
            "bucket.tokens -= if MUTATED { 0.05 } else { 1.0 };",
        ),
    ],
    "two fetches of one link run at once": [
        (
            "src/drain/mod.rs",
            "due.retain(|work| !self.is_under_way(&work.key.link_id));",
            "due.retain(|work| MUTATED || !self.is_under_way(&work.key.link_id));",
        ),
    ],
    "planning leaves out a row": [
        (
            "src/drain/planner.rs",
            "self.cursor = Some(reached);",
            "self.cursor = Some(if MUTATED { Seq(reached.0 + 1) } else { reached });",
        ),
    ],
    "a temporary error is given up": [
        (
            "src/drain/retry.rs",
            "Class::Unavailable if attempts >= FEW_TRIES",
            "Class::Unavailable | Class::Temporary\n"
            "            if attempts >= FEW_TRIES && (MUTATED || matches!(class, Class::Unavailable))",
        ),
    ],
    "the edge is asked on while it throttles": [
        (
            "src/drain/trouble.rs",
            "Class::Throttled | Class::Forbidden => Some(",
            "Class::Throttled | Class::Forbidden if !MUTATED || pauses > 99 => Some(",
        ),
    ],
    "refused keys are tried again at once": [
        (
            "src/drain/trouble.rs",
            "Class::Credentials => Some(CREDENTIALS_WAIT),",
            "Class::Credentials if !MUTATED => Some(CREDENTIALS_WAIT),",
        ),
    ],
    "only the first of several deleted objects is marked": [
        (
            "src/drain/plan.rs",
            "self.gone = self.envelope.data.ids.clone()",
            "self.gone = self.envelope.data.ids.iter().take(if MUTATED { 1 } else { usize::MAX }).cloned().collect()",
        ),
    ],
    "work is settled before its last objects are kept": [
        (
            "src/drain/listing.rs",
            "let tally = job\n            .store\n            .finish(last, job.work.key.clone(), now, settle)\n            .await?;",
            "let (last, later) = if MUTATED { (Vec::new(), last) } else { (last, Vec::new()) };\n"
            "        let tally = job.store.finish(last, job.work.key.clone(), now, settle).await?;\n"
            "        if MUTATED { self.put(later).await?; }",
        ),
    ],
}

# At the end of the copy's lib.rs.
WHICH = """
/// Whether this rule is to be broken.
pub fn is_mutated(number: usize) -> bool {
    static WHICH: std::sync::LazyLock<Option<usize>> =
        std::sync::LazyLock::new(|| std::env::var("MUTATION").ok()?.parse().ok());
    *WHICH == Some(number)
}
"""


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    wanted = sys.argv[1:] or list(MUTATIONS)
    kept = os.environ.get("MUTATIONS_DIR")
    place = pathlib.Path(kept or tempfile.mkdtemp(prefix="mutations-"))
    copy = place / "copy"
    target = os.environ.get("CARGO_TARGET_DIR", place / "target")
    # Files keep their times, so that only what was changed since is built again.
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git"), dirs_exist_ok=True)
    survived = []
    try:
        mutate(copy)
        if said := run(copy, target, "", SEEDS_UNBROKEN):
            sys.exit(f"with no rule broken: {said}")
        for name in wanted:
            print(f"{name}: ", end="", flush=True)
            caught = run(copy, target, str(list(MUTATIONS).index(name)), SEEDS)
            print(f"caught, {caught}" if caught else "NOT CAUGHT", flush=True)
            if not caught:
                survived.append(name)
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
    print(f"{len(wanted) - len(survived)} of {len(wanted)} mutations were caught")
    return 1 if survived else 0


def mutate(copy: pathlib.Path):
    """Writes all of them into the copy, each to be had by its number."""
    for number, changes in enumerate(MUTATIONS.values()):
        for name, old, new in changes:
            path = copy / name
            text = path.read_text()
            if (count := text.count(old)) != 1:
                sys.exit(f"{name} has {count} times and not once: {old}")
            path.write_text(text.replace(old, new.replace("MUTATED", f"crate::is_mutated({number})")))
    library = copy / "src/lib.rs"
    library.write_text(library.read_text() + WHICH)


def run(copy: pathlib.Path, target: pathlib.Path, mutation: str, seeds: int) -> str:
    """What the simulation said of the first seed that failed; nothing when none did."""
    environment = dict(
        os.environ,
        CARGO_TARGET_DIR=str(target),
        RUST_BACKTRACE="0",
        SIMULATION_SEEDS=str(seeds),
        MUTATION=mutation,
    )
    command = "cargo test --quiet --locked --profile simulation --test simulation -- whatever".split()
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    for number, line in enumerate(said):
        if line.startswith("seed "):
            return f"{line.split(';')[0]}: {said[number + 1]}"
    if done.returncode != 0:
        sys.exit("\n".join(said))
    return ""


if __name__ == "__main__":
    sys.exit(main())
