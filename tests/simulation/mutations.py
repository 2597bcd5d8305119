#!/usr/bin/env python3
"""Breaks one rule of the gateway's second half after the other, in a copy of the checkout, and runs the simulation each
time: it must fail. Run as `python3 tests/simulation/mutations.py [NAME ...]`. MUTATIONS_DIR=DIR keeps the copy, and what
was built unless CARGO_TARGET_DIR says where, for a quicker second run."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SEEDS = 1500

# Name, and what is written in place of what; each text stands exactly once in its file.
MUTATIONS = {
    "a webhook that came during a fetch counts as met": [
        ("src/drain/work.rs", "self.fetched = self.fetched.max(met);", "self.fetched = self.wanted;"),
    ],
    "a fetch that was running brings a deleted object back": [
        ("src/store/objects.rs", "by >= record.seq.0", "by < 0"),
        ("src/store/objects.rs", "AND deleted_by < ?3", "AND deleted_by <> -?3"),
    ],
    "a listing that moved is taken for complete": [
        (
            "src/drain/listing.rs",
            "!self.cut_short && self.counts.len() == 1 && self.counts.contains(&seen)",
            "seen < u64::MAX",
        ),
    ],
    "what is new is asked for although the whole list is wanted": [
        ("src/drain/work.rs", "if self.whole <= self.fetched && whole_is_recent", "if whole_is_recent"),
    ],
    "what is new is asked for from too late a day": [
        ("src/drain/work.rs", "Extent::Since(at.minus(NEW_OVERLAP))", "Extent::Since(at.plus(NEW_OVERLAP))"),
    ],
    "a blocked link stays blocked when its data comes": [
        (
            "src/drain/links.rs",
            "(Some(Status::Valid), Said::Works(_)) =>",
            "(Some(_), Said::Works(_)) =>",
        ),
    ],
    "a request costs a twentieth of a token": [
        ("src/drain/budget.rs", "bucket.tokens -= 1.0;", "bucket.tokens -= 0.05;"),
    ],
    "two fetches of one link run at once": [
        ("src/drain/mod.rs", "due.retain(|work| !self.is_under_way(&work.key.link_id));", ""),
    ],
    "planning leaves out a row": [
        ("src/drain/planner.rs", "self.cursor = Some(reached);", "self.cursor = Some(Seq(reached.0 + 1));"),
    ],
    "a temporary error is given up": [
        (
            "src/drain/retry.rs",
            "Class::Unavailable if attempts >= FEW_TRIES",
            "Class::Unavailable | Class::Temporary if attempts >= FEW_TRIES",
        ),
    ],
    "the edge is asked on while it throttles": [
        (
            "src/drain/trouble.rs",
            "Class::Throttled | Class::Forbidden => Some(",
            "Class::Throttled | Class::Forbidden if pauses > 99 => Some(",
        ),
    ],
    "refused keys are tried again at once": [
        ("src/drain/trouble.rs", "Class::Credentials => Some(CREDENTIALS_WAIT),", ""),
    ],
    "only the first of several deleted objects is marked": [
        (
            "src/drain/plan.rs",
            "self.gone = self.envelope.data.ids.clone()",
            "self.gone = self.envelope.data.ids.iter().take(1).cloned().collect()",
        ),
    ],
    "work is settled before its last objects are kept": [
        (
            "src/drain/listing.rs",
            ".finish(last, job.work.key.clone(), now, settle)\n            .await?;",
            ".finish(Vec::new(), job.work.key.clone(), now, settle)\n            .await?;\n        self.put(last).await?;",
        ),
    ],
}


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    wanted = sys.argv[1:] or list(MUTATIONS)
    kept = os.environ.get("MUTATIONS_DIR")
    place = pathlib.Path(kept or tempfile.mkdtemp(prefix="mutations-"))
    copy = place / "copy"
    target = os.environ.get("CARGO_TARGET_DIR", place / "target")
    # Files keep their times, so that only what was changed since is built again.
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git"), dirs_exist_ok=True)
    # First of all, so that a rule that is written differently by now does not cost ten minutes.
    for name, old, _ in (change for mutation in wanted for change in MUTATIONS[mutation]):
        if (count := (copy / name).read_text().count(old)) != 1:
            sys.exit(f"{name} has {count} times and not once: {old}")
    survived = []
    try:
        for name in wanted:
            print(f"{name}: ", end="", flush=True)
            caught = run(copy, target, MUTATIONS[name])
            print(caught or "NOT CAUGHT", flush=True)
            if not caught:
                survived.append(name)
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)
    print(f"{len(wanted) - len(survived)} of {len(wanted)} mutations were caught")
    return 1 if survived else 0


def run(copy: pathlib.Path, target: pathlib.Path, changes: list) -> str:
    """What the simulation said of the first seed that failed; nothing when none did."""
    originals = {}
    for name, old, new in changes:
        path = copy / name
        text = path.read_text()
        originals.setdefault(path, text)
        path.write_text(text.replace(old, new))
    environment = dict(
        os.environ,
        CARGO_TARGET_DIR=str(target),
        RUSTFLAGS="-Awarnings",
        RUST_BACKTRACE="0",
        SIMULATION_SEEDS=str(SEEDS),
    )
    command = "cargo test --quiet --locked --profile simulation --test simulation -- whatever".split()
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    finally:
        for path, text in originals.items():
            path.write_text(text)
            os.utime(path)
    said = (done.stdout + done.stderr).splitlines()
    if any(line.startswith("error") and "test failed" not in line for line in said):
        sys.exit("\n".join(said))
    for number, line in enumerate(said):
        if line.startswith("seed "):
            return f"caught, {line.split(';')[0]}: {said[number + 1]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
