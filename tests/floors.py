#!/usr/bin/env python3
"""Checks who imports whom, in every crate of the workspace.

1. The files of core/resume/src stand on floors, each a folder. No file imports from a higher floor, and none calls a
   method that only a higher floor defines.
2. No modules import each other in a circle, anywhere in the workspace. A module here is a file and its private
   children (`mod x;` without `pub`): these are its inside, and may refer to each other. A child that others can name
   (`pub mod`, `pub(crate) mod`) is a module of its own, and so is every child of a crate's root.

What counts as an import: each path of a `use`, and each path in the code, of which `crate`, `self`, `super`, a module
or an imported name is the beginning. It leads to the file that defines the thing: a re-export on the way is passed
through, and a module that re-exports what is in its children has not imported it. Code under `#[cfg(test)]` is left out.

`tests/floors.py` checks the workspace. `tests/floors.py --self-test` checks this script against small crates of its
own. Python 3, no packages.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

# Lowest first.
FLOORS = ["words", "live", "durable", "tasks", "door"]
FLOORED = "session-resume"
# Files of the floored crate's root that hold no code.
NO_CODE = {"docs"}

TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<string>b?c?"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\(?:x..|u\{[^}]*\}|.))')
  | (?P<raw>b?c?r(?P<hashes>\#*)"(?:.*?)"(?P=hashes))
  | (?P<life>'[A-Za-z_]\w*)
  | (?P<word>(?:r\#)?[A-Za-z_]\w*)
  | (?P<number>\d\w*)
  | (?P<sep>::)
  | (?P<sign>.)
    """,
    re.X | re.S,
)


def tokens_of(text):
    """Returns the words and signs of a file, each with its line; comments and strings are left out."""
    tokens, line, at = [], 1, 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, end = 1, at + 2
            while depth and end < len(text):
                if text.startswith("/*", end):
                    depth, end = depth + 1, end + 2
                elif text.startswith("*/", end):
                    depth, end = depth - 1, end + 2
                else:
                    end += 1
            line += text.count("\n", at, end)
            at = end
            continue
        match = TOKEN.match(text, at)
        kind = match.lastgroup if match.lastgroup != "hashes" else "raw"
        if match.group("raw") is not None:
            kind = "raw"
        if kind in ("word", "sep", "sign"):
            tokens.append((match.group(0), line))
        elif kind in ("string", "raw", "number"):
            # In quotes, so that it is no word.
            tokens.append(('"' + match.group(0).strip('"'), line))
        line += match.group(0).count("\n")
        at = match.end()
    return tokens


class Module:
    """One module: a file, or a block in one."""

    def __init__(self, path, file, unit=None):
        self.path, self.file = path, file
        # The file of the module that this is, or is the inside of.
        self.unit = unit or file
        self.children = {}
        # name -> path of what it stands for, and whether others can import it from here
        self.names = {}
        self.globs = []
        self.items = set()
        # (path, line) in its code
        self.paths = []
        # (path, line, name, public) of its `use`s
        self.uses = []
        self.words = set()
        # (path of the type, names), of inherent impls
        self.methods = []
        self.functions = set()
        self.types = set()
        self.calls = []


ITEMS = {"struct", "enum", "union", "trait", "type", "const", "static", "fn"}


class Crate:
    """The modules of one target, from its root file on."""

    def __init__(self, root):
        self.modules = {}
        self.files = set()
        self.read((), root, os.path.dirname(root), None)

    def read(self, path, file, folder, unit):
        module = self.modules[path] = Module(path, file, unit)
        self.files.add(file)
        with open(file, encoding="utf-8") as text:
            tokens = tokens_of(text.read())
        self.parse(module, tokens, 0, len(tokens), folder)

    def parse(self, module, tokens, at, end, folder):
        """Reads tokens[at:end] into the module. `folder`: where the files of its children are."""
        depth = 0
        public = False
        attributes = []
        while at < end:
            word, line = tokens[at]
            if word == "#" and at + 1 < end and tokens[at + 1][0] in "[!":
                start = at + (2 if tokens[at + 1][0] == "!" else 1)
                close = closing(tokens, start)
                attributes.append([token for token, _ in tokens[start + 1 : close]])
                at = close + 1
                continue
            if any(is_test(attribute) for attribute in attributes):
                at, attributes, public = after_item(tokens, at), [], False
                continue
            if word == "pub":
                public = True
                at += 1
                if tokens[at][0] == "(":
                    at = closing(tokens, at) + 1
                continue
            if word == "use" and tokens[at + 1][0] != "<":
                stop = at
                while tokens[stop][0] != ";":
                    stop += 1
                for path, name, where in tree(tokens[at + 1 : stop]):
                    self.note_use(module, path, name, where, public)
                at, attributes, public = stop + 1, [], False
                continue
            if word == "mod" and at + 2 < end and tokens[at + 2][0] in "{;":
                name = tokens[at + 1][0]
                child = module.path + (name,)
                module.children[name] = child
                if tokens[at + 2][0] == "{":
                    close = closing(tokens, at + 2)
                    inner = self.modules[child] = Module(child, module.file, module.unit)
                    self.parse(inner, tokens, at + 3, close, os.path.join(folder, name))
                    at = close + 1
                else:
                    given = [word[1:] for name_, _, word in filter(is_path, attributes)]
                    unit = module.unit if module.path and not public else None
                    self.read_child(child, name, folder, given, unit)
                    at += 3
                attributes, public = [], False
                continue
            if word == "impl" and depth == 0:
                self.note_impl(module, tokens, at)
            if word in ITEMS and depth == 0 and at + 1 < end and tokens[at + 1][0] not in ("(", "<", "fn"):
                module.items.add(tokens[at + 1][0])
                if word != "fn":
                    module.types.add(tokens[at + 1][0])
            if word == "fn" and is_word(tokens[at + 1][0]):
                module.functions.add(tokens[at + 1][0])
            if word == "macro_rules":
                module.items.add(tokens[at + 2][0])
            if is_word(word) and (at == 0 or tokens[at - 1][0] not in (".", "::")):
                stop, path = at, [word]
                while stop + 2 < end and tokens[stop + 1][0] == "::" and is_word(tokens[stop + 2][0]):
                    stop += 2
                    path.append(tokens[stop][0])
                module.words.add(word)
                if len(path) > 1:
                    module.paths.append((tuple(path), line))
                at = stop
            elif is_word(word) and tokens[at - 1][0] == "." and tokens[at + 1][0] in ("(", "::"):
                module.calls.append((word, line))
            if word in "({[":
                depth += 1
            elif word in ")}]":
                depth -= 1
            if word not in ("unsafe", "async", "extern", "const"):
                attributes, public = [], False
            at += 1

    def read_child(self, path, name, folder, given, unit):
        if given:
            file = os.path.join(os.path.dirname(self.modules[path[:-1]].file), given[0])
            return self.read(path, file, os.path.dirname(file), unit)
        flat, deep = os.path.join(folder, name + ".rs"), os.path.join(folder, name, "mod.rs")
        file = flat if os.path.exists(flat) else deep
        if not os.path.exists(file):
            raise SystemExit(f"{folder}: no file for `mod {name};`")
        return self.read(path, file, os.path.join(folder, name), unit)

    def note_use(self, module, path, name, line, public):
        if name == "*":
            module.globs.append(path)
            module.uses.append((path, line, "*", public))
            return
        if name != "_":
            module.names[name] = path
        module.uses.append((path, line, name, public))

    def note_impl(self, module, tokens, at):
        """Notes the methods of an inherent impl."""
        at += 1
        if tokens[at][0] == "<":
            at = closing(tokens, at) + 1
        path, start = [], at
        while is_word(tokens[at][0]) or tokens[at][0] == "::":
            if tokens[at][0] not in ("::", "where", "for"):
                path.append(tokens[at][0])
            elif tokens[at][0] != "::":
                break
            at += 1
        if tokens[at][0] == "<":
            at = closing(tokens, at) + 1
        if tokens[at][0] == "for" or not path:
            return
        while tokens[at][0] != "{":
            at += 1
        close, at, methods = closing(tokens, at), at + 1, []
        while at < close:
            word = tokens[at][0]
            if word == "fn":
                methods.append(tokens[at + 1][0])
            at = closing(tokens, at) + 1 if word in "({[" else at + 1
        module.methods.append((tuple(path), methods))

    def resolve(self, path, module, seen=()):
        """Returns the module that defines what the path names, or the module itself if that is what it names;
        None for what is not of this crate."""
        first, rest = path[0], path[1:]
        if first == "crate":
            return self.walk(self.modules[()], rest, seen)
        if first == "self":
            return self.walk(module, rest, seen)
        if first == "super":
            return self.walk(self.modules[module.path[:-1]], rest, seen) if module.path else None
        if first in module.children or first in module.names or first in module.items:
            # A function's name begins no path: `bytes::Bytes` is of the crate `bytes`.
            if rest and first in module.names and first not in module.children and (first, module.path) not in seen:
                named = self.resolve(module.names[first], module, seen + ((first, module.path),))
                if named and module.names[first][-1] in named.functions - named.types:
                    return None
            return self.walk(module, path, seen)
        return self.walk_globs(module, path, seen)

    def walk(self, module, path, seen):
        if not path:
            return module
        first, rest = path[0], path[1:]
        if first == "super":
            return self.walk(self.modules[module.path[:-1]], rest, seen) if module.path else None
        if first in module.children:
            child = self.modules.get(module.children[first])
            return self.walk(child, rest, seen) if child else None
        if first in module.items:
            return module
        if first in module.names:
            # Once: `use bytes::bytes` means a crate.
            if (first, module.path) in seen:
                return None
            return self.resolve(module.names[first] + rest, module, seen + ((first, module.path),))
        return self.walk_globs(module, path, seen)

    def walk_globs(self, module, path, seen):
        """What the path means if its first part is in one of the modules that this one imports whole."""
        for glob in module.globs:
            if ("*", glob, module.path) in seen:
                continue
            now = seen + (("*", glob, module.path),)
            target = self.resolve(glob, module, now)
            if target and target is not module:
                found = self.walk(target, path, now)
                if found:
                    return found
        return None

    def imports(self):
        """Yields (module that imports, module that is imported, line, text)."""
        for module in list(self.modules.values()):
            for path, line, name, public in module.uses:
                target = self.resolve(path, module)
                if target is None or (name != "*" and self.names_module(path, module)):
                    continue
                below = target.path[: len(module.path)] == module.path and target is not module
                if public and below and name not in module.words:
                    continue
                yield module, target, line, "::".join(path)
            for path, line in module.paths:
                target = self.resolve(path, module)
                if target is not None:
                    yield module, target, line, "::".join(path)

    def names_module(self, path, module):
        """Whether the path names a module: what is used of it has its own paths."""
        target = self.resolve(path, module)
        if target is None or not path:
            return False
        last = path[-1]
        return bool(target.path) and target.path[-1] == last and last not in target.items or last in (
            "crate",
            "self",
            "super",
        )


def is_word(word):
    return word[0].isalpha() or word[0] == "_" or word.startswith("r#")


def is_path(attribute):
    return len(attribute) == 3 and attribute[0] == "path"


def is_test(attribute):
    return attribute[:1] == ["cfg"] and "test" in attribute and "not" not in attribute or attribute == ["test"]


PAIRS = {"(": ")", "{": "}", "[": "]", "<": ">"}


def closing(tokens, at):
    """Returns where the bracket that opens at `at` closes."""
    opens, closes, depth = tokens[at][0], PAIRS[tokens[at][0]], 0
    while True:
        word = tokens[at][0]
        if word == opens:
            depth += 1
        elif word == closes and not (word == ">" and tokens[at - 1][0] in ("-", "=")):
            depth -= 1
            if depth == 0:
                return at
        at += 1


def after_item(tokens, at):
    """Returns where the item that begins at `at` is over."""
    while tokens[at][0] not in "{;":
        at = closing(tokens, at) + 1 if tokens[at][0] in "([" else at + 1
    return closing(tokens, at) + 1 if tokens[at][0] == "{" else at + 1


def tree(tokens):
    """Yields (path, name, line) of each leaf of a `use` tree."""

    def leaves(prefix, at):
        path = list(prefix)
        line = tokens[at][1] if at < len(tokens) else 0
        while at < len(tokens):
            word, line = tokens[at]
            if word == "{":
                at += 1
                while tokens[at][0] != "}":
                    found, at = leaves(path, at)
                    out.extend(found)
                    if tokens[at][0] == ",":
                        at += 1
                return [], at + 1
            if word == "*":
                return [(tuple(path), "*", line)], at + 1
            if word == "as":
                return [(tuple(path), tokens[at + 1][0], line)], at + 2
            if word in (",", "}"):
                break
            if word != "::":
                path.append(word)
            at += 1
        # `a::{self}` is `a`.
        if len(path) > 1 and path[-1] == "self":
            path.pop()
        return [(tuple(path), path[-1], line)], at

    out = []
    found, _ = leaves([], 0)
    return out + found


def circles(graph):
    """Returns the strongly connected parts of more than one node (Tarjan)."""
    index, low, stack, on, out = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while True:
                part.append(stack.pop())
                on.discard(part[-1])
                if part[-1] == node:
                    break
            if len(part) > 1:
                out.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return out


def floor_of(module):
    return FLOORS.index(module.path[0]) if module.path and module.path[0] in FLOORS else None


def check(root, floored, shown):
    """Returns what is wrong with the crate of this root file."""
    crate, faults = Crate(root), []
    graph, why = {}, {}
    for module, target, line, text in crate.imports():
        if module.unit != target.unit:
            graph.setdefault(module.unit, set()).add(target.unit)
            why.setdefault((module.unit, target.unit), (module.file, line, text))
        if floored and floor_of(module) is not None:
            above = floor_of(target)
            if above is None or above > floor_of(module):
                floor = FLOORS[above] if above is not None else "the crate's root"
                faults.append(f"{shown(module.file)}:{line}: `{text}` is of a higher floor ({floor})")
    if floored:
        faults += calls_up(crate, shown)
        for path, module in crate.modules.items():
            if len(path) == 1 and path[0] not in FLOORS and path[0] not in NO_CODE and module.file != root:
                faults.append(f"{shown(module.file)}: stands on no floor")
    for circle in circles(graph):
        lines = [
            f"    {shown(why[a, b][0])}:{why[a, b][1]}: `{why[a, b][2]}` of {shown(b)}"
            for a in circle
            for b in sorted(graph[a])
            if b in circle
        ]
        faults.append("modules that import each other in a circle:\n" + "\n".join(lines))
    return faults


def calls_up(crate, shown):
    """A method that a higher floor gives to a type of a lower one is the higher floor's: no lower file calls it.

    Told by its name: one that is defined further down, too, may be meant, and is not looked at."""
    given, own = {}, {}
    for module in crate.modules.values():
        floor = floor_of(module)
        if floor is None:
            continue
        for name in module.functions:
            own[name] = min(floor, own.get(name, floor))
        for path, methods in module.methods:
            target = crate.resolve(path, module)
            below = target and floor_of(target) is not None and floor_of(target) < floor
            for name in methods if below else ():
                given[name] = min(floor, given.get(name, floor))
    faults = []
    for module in crate.modules.values():
        floor = floor_of(module)
        calls = list(module.calls)
        # `Type::method`, of a type of this crate.
        calls += [(path[-1], line) for path, line in module.paths if crate.resolve(path[:-1], module)]
        for name, line in calls if floor is not None else ():
            if given.get(name, 0) > floor and own.get(name, floor + 1) > floor:
                faults.append(
                    f"{shown(module.file)}:{line}: `{name}` is a method of a higher floor ({FLOORS[given[name]]})"
                )
    return faults


def workspace():
    """Yields (package, root file) of every target of the workspace."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    found = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"],
        cwd=folder, check=True, capture_output=True, text=True,
    )
    data = json.loads(found.stdout)
    for package in data["packages"]:
        for target in package["targets"]:
            yield package["name"], target["kind"], target["src_path"], data["workspace_root"]


def main():
    faults, crates = [], 0
    for package, kind, root, top in workspace():
        crates += 1
        floored = package == FLOORED and "lib" in kind
        faults += check(root, floored, lambda file, top=top: os.path.relpath(file, top))
    for fault in dict.fromkeys(faults):
        print(fault)
    print(f"floors: {crates} crates, {len(set(faults))} faults")
    return 1 if faults else 0


FLOORED_LIB = "mod door; mod durable; mod live; mod tasks; mod words;"
EMPTY_FLOORS = {"words/mod.rs": "", "live/mod.rs": "", "durable/mod.rs": "", "tasks/mod.rs": "", "door/mod.rs": ""}

# (what it is, files, whether it has floors, what the fault says; None for none)
CASES = [
    (
        "an import from a higher floor",
        {
            "lib.rs": FLOORED_LIB,
            "words/mod.rs": "pub mod a; pub struct Id;",
            "words/a.rs": "use std::fmt;\n\nuse crate::{words::Id,\n    live::{session, registry::Registry}};",
            "live/mod.rs": "pub mod registry; pub mod session;",
            "live/registry.rs": "pub struct Registry;",
            "live/session.rs": "",
        },
        True,
        "words/a.rs:4: `crate::live::registry::Registry` is of a higher floor (live)",
    ),
    (
        "a path in the code, through a module that was imported",
        {
            "lib.rs": FLOORED_LIB,
            "live/mod.rs": "use super::door as up;\nfn f() { up::g(); }",
            "door/mod.rs": "pub fn g() {}",
        },
        True,
        "live/mod.rs:2: `up::g` is of a higher floor (door)",
    ),
    (
        "a name that the crate's root publishes",
        {
            "lib.rs": FLOORED_LIB + " pub use door::Layer;",
            "live/mod.rs": "use crate::Layer;",
            "door/mod.rs": "pub struct Layer;",
        },
        True,
        "live/mod.rs:1: `crate::Layer` is of a higher floor (door)",
    ),
    (
        "a glob",
        {"lib.rs": FLOORED_LIB, "words/mod.rs": "use crate::door::*;\nfn f(_: &Layer) { Layer::new(); }",
         "door/mod.rs": "pub struct Layer;"},
        True,
        "words/mod.rs:1: `crate::door` is of a higher floor (door)",
    ),
    (
        "a method of a higher floor",
        {
            "lib.rs": FLOORED_LIB,
            "live/mod.rs": "pub struct Shared;\nfn f(s: &Shared) { s.put_away(); }",
            "durable/mod.rs": "use crate::live::Shared;\nimpl Shared { fn put_away(&self) {} }",
        },
        True,
        "live/mod.rs:2: `put_away` is a method of a higher floor (durable)",
    ),
    (
        "an import under cfg(test), and one in a comment or a string",
        {
            "lib.rs": FLOORED_LIB,
            "words/mod.rs": "// use crate::door::Layer;\n/* use crate::door::Layer; */\n"
            "const A: &str = \"use crate::door::Layer;\"; const B: &str = r#\"crate::door::Layer\"#;\n"
            "#[cfg(test)]\nmod tests { use crate::door::Layer; }\n#[cfg(test)]\nuse crate::door::Layer as _;",
            "door/mod.rs": "pub struct Layer;",
        },
        True,
        None,
    ),
    (
        "imports that run down",
        {
            "lib.rs": FLOORED_LIB + " pub use door::Layer;",
            "words/mod.rs": "pub(crate) struct Id;",
            "door/mod.rs": "use crate::{live::Session, words::Id as I};\npub struct Layer(Session, I);",
            "live/mod.rs": "use super::words::Id; pub struct Session(Id);",
        },
        True,
        None,
    ),
    ("a module beside the floors", {"lib.rs": FLOORED_LIB + " mod more;", "more.rs": ""}, True, "stands on no floor"),
    (
        "two files",
        {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B; pub struct A;", "b.rs": "use super::a::A; pub struct B;"},
        False,
        "a.rs:1: `crate::b::B` of b.rs",
    ),
    (
        "a circle through a re-export",
        {
            "lib.rs": "mod a; mod b; pub use a::A;",
            "a.rs": "pub struct A;\nfn f() { crate::b::g() }",
            "b.rs": "use crate::A;\npub fn g() {}",
        },
        False,
        "b.rs:1: `crate::A` of a.rs",
    ),
    (
        "a child that others can name and its parent",
        {
            "lib.rs": "mod a;",
            "a/mod.rs": "pub(crate) mod b;\nuse self::b::B;\npub struct A(B);",
            "a/b.rs": "use super::A;\npub struct B;",
        },
        False,
        "a/b.rs:1: `super::A` of a/mod.rs",
    ),
    (
        "a private child and its parent, and a parent that only publishes",
        {
            "lib.rs": "mod a; mod c;",
            "a/mod.rs": "mod b;\nuse self::b::B;\npub struct A(B);",
            "a/b.rs": "use super::A;\npub struct B;",
            "c/mod.rs": "pub mod d; pub mod e; pub use self::{d::D, e::E};",
            "c/d.rs": "use super::E; pub struct D(E);",
            "c/e.rs": "pub struct E;",
        },
        False,
        None,
    ),
]


def self_test():
    wrong = 0
    for what, files, floored, expected in CASES:
        with tempfile.TemporaryDirectory() as folder:
            files = {**(EMPTY_FLOORS if floored else {}), **files}
            for name, text in files.items():
                path = os.path.join(folder, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            faults = check(os.path.join(folder, "lib.rs"), floored, lambda file: os.path.relpath(file, folder))
        found = "\n".join(faults)
        if (expected is None and faults) or (expected is not None and expected not in found):
            wrong += 1
            print(f"{what}: expected {expected!r}, found:\n{found or 'no fault'}")
    print(f"floors: {len(CASES)} cases of its own, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else main())
