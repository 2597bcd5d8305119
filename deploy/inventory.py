#!/usr/bin/env python3
"""What is inside the program: a copyright file as Debian has it, and a list of parts (SBOM, CycloneDX 1.5).

Usage: deploy/inventory.py TARGET DIRECTORY [RUST-VERSION]; writes DIRECTORY/copyright and DIRECTORY/sbom.cdx.json. From
Cargo.lock and the sources of the crates alone, so the same commit gives the same bytes; SOURCE_DATE_EPOCH gives the time.
Exit status 1 when a licence has no text here.
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Which one is taken where a crate leaves the choice: the shortest terms first.
PREFERRED = ["MIT", "ISC", "BSD-3-Clause", "Zlib", "Unicode-3.0", "CDLA-Permissive-2.0", "Apache-2.0"]
# Words that a licence's text has and no other's.
MARKS = {
    "MIT": "Permission is hereby granted, free of charge",
    "ISC": "Permission to use, copy, modify, and/or distribute this software",
    "BSD-3-Clause": "Neither the name of",
    "Zlib": "This software is provided 'as-is'",
    "Unicode-3.0": "UNICODE LICENSE V3",
    "CDLA-Permissive-2.0": "Community Data License Agreement",
}
# Parts of ring are from BoringSSL, Go, Chromium and once_cell; its own expression does not name their licences.
BESIDES = {"ring": ["BSD-3-Clause", "MIT"]}
REFERENCE = {
    "Apache-2.0": "On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.",
    "Apache-2.0 with LLVM exception": "On Debian systems the text of the Apache License 2.0 is in\n"
    "/usr/share/common-licenses/Apache-2.0. As an exception, if, as a result of your compiling your source code,\n"
    "portions of this Software are embedded into an Object form of such source code, you may redistribute such\n"
    "embedded portions in such Object form without complying with the conditions of Sections 4(a), 4(b) and 4(d)\n"
    "of the License.",
    "public-domain": "The author disclaims copyright to this source code. In place of a legal notice, here is a blessing:\n"
    "May you do good and not evil. May you find forgiveness for yourself and forgive others. May you share freely,\n"
    "never taking more than you give.",
}


def cargo(*arguments):
    """What cargo prints."""
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def inside(target):
    """The crates whose code is in the program, as `cargo metadata` has them; ours first."""
    tree = cargo("tree", "--locked", "-e", "normal,no-proc-macro", "--target", target, "--prefix", "none", "--format", "{p}")
    named = {tuple(line.split()[:2]) for line in tree.splitlines() if line and "(proc-macro)" not in line}
    packages = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))["packages"]
    found = [one for one in packages if (one["name"], "v" + one["version"]) in named]
    return sorted(found, key=lambda one: (one["source"] is not None, one["name"], one["version"]))


def chosen(package):
    """The licences a crate is taken under."""
    names = []
    for part in re.split(r"\bAND\b", (package["license"] or "").replace("/", " OR ")):
        offered = [re.sub(r"[()]", "", one).split(" WITH ")[0].strip() for one in re.split(r"\bOR\b", part)]
        names.append(next((name for name in PREFERRED if name in offered), offered[0]))
    return sorted(set(names + BESIDES.get(package["name"], [])))


def texts(package):
    """The contents of the licence files of a crate."""
    place = pathlib.Path(package["manifest_path"]).parent
    # Not below our own directory, where all that was built lies.
    below = place.rglob("*") if package["source"] else place.glob("*")
    files = [one for one in below if re.match(r"(?i)(licen[cs]e|copying|copyright|notice)", one.name) and one.is_file()]
    return [one.read_text(errors="replace") for one in sorted(files) if one.stat().st_size < 100_000]


def holders(package):
    """Who holds the copyright of a crate, as its files say; else its authors."""
    lines = []
    for text in texts(package):
        for line in text.splitlines():
            line = line.strip(" #*/\t")
            if re.match(r"(?i)copyright\b.*(\d{4}|\(c\))|©", line) and "[yyyy]" not in line and line not in lines:
                lines.append(line)
    authors = [re.sub(r"\s*<.*>", "", one) for one in package["authors"]]
    return lines or authors or [f"the authors of {package['name']}"]


def licence_text(name, packages):
    """The terms of a licence without the line that names the holder, from a crate that has them."""
    for package in packages:
        for text in texts(package):
            if MARKS[name] in re.sub(r"\s+", " ", text) and len(text) < 8000:
                lines = text.strip().splitlines()
                terms = (one.rstrip() for one in lines if not re.match(r"(?i)\s*(copyright \(c\)|copyright \d|©)", one))
                return "\n".join(terms).strip()
    sys.exit(f"deploy/inventory.py: no crate has the text of {name}; say in MARKS how to know it")


def others(target, packages, rust):
    """What is in the program and is no crate: name, version, holder, licence."""
    sqlite = next(one for one in packages if one["name"] == "libsqlite3-sys")
    header = (pathlib.Path(sqlite["manifest_path"]).parent / "sqlite3/sqlite3.h").read_text(errors="replace")
    yield "sqlite", re.search(r'#define SQLITE_VERSION +"([^"]+)"', header)[1], "none", "public-domain"
    yield "rust-std", rust, "The Rust Project Developers, and the authors of the crates it is made from", "MIT"
    if target.endswith("musl"):
        yield "musl", "1.2", "2005-2024 Rich Felker, et al.", "MIT"
        yield "llvm-libunwind", "", "the LLVM contributors", "Apache-2.0 with LLVM exception"


def folded(text):
    """Continuation lines as a control file has them."""
    return "\n".join(f" {line.strip()}" if line.strip() else " ." for line in text.splitlines())


def copyright_file(packages, rest):
    """The file `copyright`: one paragraph for each part, then each licence once."""
    paragraphs = ["Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: belvo-gateway"
                  "\nComment: The program is one file; below are the parts it was made from, as if each had a directory."]
    used = set()
    for package in packages:
        names = chosen(package) if package["source"] else ["MIT"]
        used.update(names)
        place = f"parts/{package['name']}-{package['version']}/*" if package["source"] else "*"
        who = "\n".join([f"Copyright: {holders(package)[0]}", *(f"           {one}" for one in holders(package)[1:])])
        paragraphs.append(f"Files: {place}\n{who}\nLicense: {' and '.join(names)}")
    for name, version, who, licence in rest:
        used.add(licence)
        paragraphs.append(f"Files: parts/{name}{'-' if version else ''}{version}/*\nCopyright: {who}\nLicense: {licence}")
    for name in sorted(used):
        text = REFERENCE.get(name) or licence_text(name, packages)
        paragraphs.append(f"License: {name}\n{folded(text)}")
    return "\n\n".join(paragraphs) + "\n"


def checksums():
    """What Cargo.lock says of each crate: {(name, version): sha256}."""
    pattern = r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"'
    return {(name, version): sum for name, version, sum in re.findall(pattern, (ROOT / "Cargo.lock").read_text())}


def bill(target, packages, rest):
    """The list of parts."""
    own, sums = packages[0], checksums()
    parts = []
    for package in packages[1:]:
        name, version = package["name"], package["version"]
        parts.append({
            "type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}",
            "hashes": [{"alg": "SHA-256", "content": sums[name, version]}],
            "licenses": [{"expression": package["license"].replace("/", " OR ")}],
        })
    for name, version, _, licence in rest:
        parts.append({"type": "library", "name": name, "version": version, "licenses": [{"license": {"name": licence}}]})
    when = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.timezone.utc)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "name": own["name"], "version": own["version"],
                          "licenses": [{"expression": own["license"]}]},
            "properties": [{"name": "target", "value": target}],
        },
        "components": parts,
    }


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: deploy/inventory.py TARGET DIRECTORY [RUST-VERSION]")
    target, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    rust = sys.argv[3] if len(sys.argv) == 4 else ""
    packages = inside(target)
    rest = list(others(target, packages, rust))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "copyright").write_text(copyright_file(packages, rest))
    (directory / "sbom.cdx.json").write_text(json.dumps(bill(target, packages, rest), indent=1) + "\n")
    print(f"{len(packages)} crates and {len(rest)} other parts are in the program for {target}")


if __name__ == "__main__":
    main()
