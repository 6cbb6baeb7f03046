#!/usr/bin/env python3
"""Checks the include arrows: which folder may know which.

A folder of src/ may include itself and the folders before it in FOLDERS, and nothing may include
against that. Every #include "..." is written from src/, include/ or the root of the tree.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Bottom up.
FOLDERS = ["base", "format", "io", "observe", "segment", "snapshot", "cursor", "log", "store",
           "replicate", "cli"]

# Neither knows the other, though one has to come first.
STRANGERS = [{"format", "io"}]

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def known_to(path):
    """The first parts of the includes a file may have, and why others are refused."""
    parts = path.parts
    is_test = path.name.endswith("_test.cc")
    if parts[0] == "include":
        return {"nori"}, "the public headers include nothing but each other"
    if parts[0] == "src":
        folder = parts[1]
        if folder not in FOLDERS:
            return {"nori"}, f"src/{folder} is not among the folders of scripts/check_includes.py"
        below = {
            other
            for other in FOLDERS[: FOLDERS.index(folder) + 1]
            if {folder, other} not in STRANGERS
        }
        known = below | {"nori"} | ({"testing"} if is_test else set())
        return known, f"src/{folder} knows only what is below it"
    if parts[0] == "testing":
        below = set(FOLDERS[: FOLDERS.index("io") + 1])
        return below | {"nori", "testing"}, "testing/ knows only io and below"
    if parts[0] == "examples":
        return {"nori", "testing"}, "it stands for a program of a user's, or for its tests"
    if path.is_relative_to("tests/install"):
        return {"nori"}, "it stands for a program of a user's"
    return None, ""


def where_found(include):
    """The file an include names, from the root of the tree; None if it is not ours."""
    for base in ("src", "include", "."):
        candidate = pathlib.Path(base) / include
        if (ROOT / candidate).is_file():
            return candidate
    return None


def check(path):
    known, reason = known_to(path)
    for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, include = match.groups()
        first = pathlib.PurePath(include).parts[0]
        place = f"{path}:{number}: {include}"
        if quote == "<":
            # Programs of users write <nori/...>; everything else is a library's or the system's.
            if first in FOLDERS or first in ("src", "testing"):
                yield f'{place}: write it in "quotes"'
            continue
        if path.parts[0] == "examples" and (ROOT / path.parent / include).is_file():
            continue  # an example's own part
        found = where_found(include)
        if found is None:
            yield f"{place}: no such file under src/, include/ or the root"
        elif found.parts[0] == "src" and first == "src":
            yield f"{place}: write it from src/, without src/"
        elif found.parts[0] == "include" and first == "include":
            yield f"{place}: write it from include/, without include/"
        elif known is not None and first not in known:
            yield f"{place}: {reason}"


def main():
    problems = []
    for folder in ("include", "src", "testing", "tests", "examples", "bench", "fuzz"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc"):
                problems.extend(check(path.relative_to(ROOT)))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
