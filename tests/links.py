#!/usr/bin/env python3
"""Checks that what the texts name is there: files and headings that links lead to, and files in `code font`.

Usage: tests/links.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Their paths in code font are those of this repository. Other texts speak of other places, too.
MAPS = ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/decisions.md", "docs/metrics-and-logs.md"]
# A path may leave out where it begins: `live/pump.rs`, `proto/session/attach.rs`.
BEGINNINGS = ["", "core/resume/src/", "core/resume/tests/", "core/"]
FLOORS = "words|live|durable|tasks|door"
PATH = re.compile(rf"(?:core|proto|adapters|examples|tests|benches|docs|findings|suite|{FLOORS})/[\w./-]+")


def tracked():
    """All texts of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name]


def anchors(text):
    """The anchors that GitHub makes of a text's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def links(name, text):
    """Says which links of a text lead nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        # Of the web, or an item of Rust: rustdoc checks these.
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists():
            yield f"{name}: the link {target} leads nowhere"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"{name}: the link {target} leads to no heading"


def exists(path):
    """Returns whether a path is that of a file or folder; `proto` stands for `core/proto` and its sources."""
    path = path.rstrip("./")
    inside = path.removeprefix("proto/")
    places = [ROOT / beginning / path for beginning in BEGINNINGS]
    places += [ROOT / "core/proto/src" / inside, ROOT / "core/proto" / inside] if inside != path else []
    # A module may be named without its ending.
    return any(place.exists() or place.with_name(place.name + ".rs").exists() for place in places)


def paths(name, text):
    """Says which files in code font are not there."""
    for code in re.findall(r"`([^`\n]+)`", text):
        if PATH.fullmatch(code) and not exists(code):
            yield f"{name}: there is no {code}"


faults = []
for name in tracked():
    text = (ROOT / name).read_text()
    faults += links(name, text)
    if name in MAPS:
        faults += paths(name, text)
print("\n".join(faults) or "all links and paths of the texts lead somewhere")
sys.exit(bool(faults))
