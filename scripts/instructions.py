#!/usr/bin/env python3
"""Counts the instructions of an append and of a record scanned: scripts/instructions.py [--update]

Each kind of work runs twice under valgrind's callgrind, with fewer and with more records; what lies
between the two is divided by the records between them, so that what beginning costs is left out.
Clocks and disks do not matter, so runs can be compared: a rise above 5 % over
bench/instructions/counts.txt fails. --update writes that file.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ROOT / "bench" / "instructions" / "counts.txt"
FEWER, MORE = 2000, 10000
RISE_MAX = 1.05
# Name, work, bytes of a value, and the functions whose instructions count, theirs and all they call.
ROWS = [
    ("append-100", "append", 100, ["nori::Wal::append(nori::Record*"]),
    ("append-1k", "append", 1024, ["nori::Wal::append(nori::Record*"]),
    ("batch-100", "batch", 100, ["nori::Wal::append(nori::Batch*", "nori::Batch::add*",
                                 "nori::Batch::clear*"]),
    ("scan-100", "scan", 100, ["nori::Reader::next*"]),
    ("scan-1k", "scan", 1024, ["nori::Reader::next*"]),
]


def count(program, work, value_bytes, records, functions):
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out",
             *[f"--toggle-collect={function}" for function in functions],
             program, work, str(value_bytes), str(records), f"{directory}/log"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", done.stdout)
    if done.returncode != 0 or not collected:
        sys.exit(done.stdout)
    return int(collected.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="write bench/instructions/counts.txt")
    parser.add_argument("--program", default=ROOT / "build" / "release" / "nori_instructions")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed")
    kept = dict(re.findall(r"^(\S+) (\d+)$", COUNTS.read_text(), re.M)) if COUNTS.exists() else {}
    counts, risen = {}, []
    for name, work, value_bytes, functions in ROWS:
        fewer, more = (count(arguments.program, work, value_bytes, records, functions)
                       for records in (FEWER, MORE))
        counts[name] = round((more - fewer) / (MORE - FEWER))
        before = int(kept.get(name, 0))
        print(f"{name}: {counts[name]} instructions a record, {before} kept", flush=True)
        if not arguments.update and counts[name] > before * RISE_MAX:
            risen.append(name)
    if arguments.update:
        COUNTS.write_text("# Instructions a record: scripts/instructions.py --update\n"
                          + "".join(f"{name} {number}\n" for name, number in counts.items()))
    if risen:
        sys.exit(f"more than 5 % above bench/instructions/counts.txt: {', '.join(risen)}")


if __name__ == "__main__":
    main()
