#!/usr/bin/env python3
"""What is inside the shipped program: licences, duplicates, bans, minimum versions, and how many crates.

Only what `cargo tree -e normal,build` names counts, for both machines we build for: crates that only tests use are not
shipped. Prints the count and every finding; exit status 1 when there is one.
"""

import re
import subprocess
import sys

TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
CRATES_MAX = 120
ALLOWED = {"MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Zlib", "Unicode-3.0", "CDLA-Permissive-2.0"}
# More than one version of these is allowed, with the reason.
DUPLICATES = {"base64": "instant-acme still has the one before"}
# A name, or a name and its major version, with the reason.
BANNED = {
    "aws-lc-rs": "a second crypto provider",
    "aws-lc-sys": "a second crypto provider",
    "openssl-sys": "a second TLS stack",
    "native-tls": "a second TLS stack",
    "log": "nothing reads its records",
    "syn@2": "a duplicate: everything else uses a newer one",
}
# Fixed security advisories; the lock file must not fall behind them.
MINIMUM = {
    "rustls-webpki": (0, 103, 13),
    "ring": (0, 17, 12),
    "tracing-subscriber": (0, 3, 20),
}


def accepts(expression):
    """Whether an SPDX expression can be met with the allowed licences alone."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    here = 0

    def either():
        nonlocal here
        good = both()
        while here < len(words) and words[here] == "OR":
            here += 1
            good = both() or good
        return good

    def both():
        nonlocal here
        good = one()
        while here < len(words) and words[here] == "AND":
            here += 1
            good = one() and good
        return good

    def one():
        nonlocal here
        if here >= len(words):
            return False
        word = words[here]
        here += 1
        if word == "(":
            good = either()
            here += 1
            return good
        if here + 1 < len(words) and words[here] == "WITH":
            here += 2  # An exception only ever allows more.
        return word in ALLOWED

    return either() and here == len(words)


def shipped(target):
    """The crates of the program for one target: {(name, version): licence}."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "-e", "normal,build", "--target", target, "--prefix", "none", "--format", "{p}|{l}"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    crates = {}
    for line in tree.splitlines():
        package, _, licence = line.partition("|")
        if not package:
            continue
        name, version = package.split()[:2]
        crates[name, version.removeprefix("v")] = licence.removesuffix(" (*)").strip()
    return crates


def findings(crates):
    """Everything wrong with one tree, as sentences."""
    versions = {}
    for (name, version), licence in sorted(crates.items()):
        versions.setdefault(name, []).append(version)
        if not accepts(licence):
            yield f"{name} {version}: licence {licence or '(none)'} is not among those allowed"
        for ban in (name, f"{name}@{version.split('.')[0]}"):
            if ban in BANNED:
                yield f"{name} {version}: banned, {BANNED[ban]}"
        number = tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))
        if number < MINIMUM.get(name, (0,)):
            yield f"{name} {version}: has a known advisory, at least {'.'.join(map(str, MINIMUM[name]))} is needed"
    for name, several in versions.items():
        if len(several) > 1 and name not in DUPLICATES:
            yield f"{name}: more than one version, {' and '.join(several)}"
    if len(crates) > CRATES_MAX:
        yield f"{len(crates)} crates, and {CRATES_MAX} are allowed"


def main():
    wrong = 0
    for target in TARGETS:
        crates = shipped(target)
        print(f"{target}: {len(crates)} crates in the shipped tree, this one included (at most {CRATES_MAX})")
        for finding in findings(crates):
            wrong += 1
            print(f"  {finding}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
