#!/usr/bin/env python3
"""A preprocessor of mdBook: brings in pages that stand elsewhere in the repository, and mends links.

* `{{#page PATH}}` is replaced by that file; PATH is relative to this folder.
* A link to a file that is a page of the book leads to that page.
* Any other link into the repository, or to an item of Rust, keeps its text and loses its target: the book stands alone.
* So does a picture that is not in the book's own folder.
"""

import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = re.compile(r"^\{\{#page (\S+)\}\}$", re.M)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.M | re.S)


def chapters(items):
    """All chapters of the book, nested ones too."""
    for item in items:
        if "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    pages = {}
    for chapter in chapters(book.get("items", book.get("sections", []))):
        file = HERE / "src" / chapter["path"]
        named = PAGE.search(chapter["content"])
        if named:
            file = (HERE / named[1]).resolve()
            chapter["content"] = file.read_text()
        pages[file] = chapter

    for file, chapter in pages.items():

        def mend(link):
            picture, text, target = link.groups()
            path, _, anchor = target.partition("#")
            if re.match(r"https?:", target) or not path:
                return link[0]
            meant = Path(os.path.normpath(file.parent / path))
            if meant in pages:
                beside = os.path.relpath(pages[meant]["path"], Path(chapter["path"]).parent)
                return f"[{text}]({beside}{'#' + anchor if anchor else ''})"
            if picture and meant.is_relative_to(HERE / "src"):
                return link[0]
            return "" if picture else text

        parts = FENCE.split(chapter["content"])
        parts[::2] = [LINK.sub(mend, part) for part in parts[::2]]
        chapter["content"] = "".join(parts)
    json.dump(book, sys.stdout)


main()
