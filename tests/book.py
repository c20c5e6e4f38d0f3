#!/usr/bin/env python3
"""Makes the guide with mdBook and checks it: each page is there, and each link leads somewhere.

Usage: book.py MDBOOK FOLDER
"""

import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).resolve().parent.parent / "docs/guide"
# Pages that mdBook makes of all others.
MADE = {"print.html", "404.html", "toc.html"}


def faults(book):
    pages = {file.name: file.read_text(encoding="utf-8") for file in book.glob("*.html")}
    sources = {file.stem for file in (GUIDE / "src").glob("*.md")} - {"SUMMARY"}
    for missing in sorted(sources - {Path(name).stem for name in pages}):
        yield f"{missing}.md is not in SUMMARY.md"
    for name, text in pages.items():
        if "{{#" in text:
            yield f"{name}: something was not brought in"
        if name in MADE:
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"(?:https?|data|mailto):", link):
                continue
            path, _, anchor = link.partition("#")
            file = book / path if path else book / name
            if not file.exists():
                yield f"{name}: {link} leads nowhere"
            elif anchor and f'id="{anchor}"' not in pages.get(file.name, ""):
                yield f"{name}: {link} leads to no heading"


def main(mdbook, folder):
    subprocess.run([mdbook, "build", str(GUIDE), "--dest-dir", str(Path(folder).resolve())], check=True)
    found = list(faults(Path(folder)))
    if found:
        sys.exit("\n".join(found))
    print(f"the guide is in {folder}")


if len(sys.argv) != 3:
    sys.exit(__doc__)
main(*sys.argv[1:])
