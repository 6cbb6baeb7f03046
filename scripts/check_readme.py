#!/usr/bin/env python3
"""Checks that the README's C++ example is the text of examples/readme.cc, which is compiled."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    example = (ROOT / "examples" / "readme.cc").read_text().strip()
    readme = (ROOT / "README.md").read_text()
    blocks = [block.strip() for block in re.findall(r"^```cpp\n(.*?)^```$", readme, re.M | re.S)]
    if example in blocks:
        return 0
    print("README.md has no ```cpp block that is the text of examples/readme.cc", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
