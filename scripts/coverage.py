#!/usr/bin/env python3
"""Which branches of the log's core no test takes: scripts/coverage.py [--jobs N] [--again]

Runs the tests of build/coverage and counts, for the folders in PARTS, how many of the conditions' two
outcomes were seen. Those that were not are in tests/uncovered.txt, each with a reason.
Prints what is not there, and what need not be there, and fails on either. Processes that tests kill
and fork count too: their counters lie in shared mappings.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "coverage"
REASONS = ROOT / "tests" / "uncovered.txt"
PARTS = ["src/format", "src/segment", "src/log", "src/cursor", "src/snapshot"]
# Random; the same crashes twice over, for minutes; and what counts or installs something itself.
LEFT_OUT = "crash_hunt|CrashedRecoveryTest|instruction_counts|bench_smoke|install"


def run_tests(profiles, jobs):
    shutil.rmtree(profiles, ignore_errors=True)
    profiles.mkdir()
    environment = dict(os.environ, NORI_PROFILES=str(profiles))  # scripts/own_profile.sh
    # What programs without counted code say of that is of no interest.
    tests = subprocess.run(["ctest", "--preset", "coverage", "--parallel", jobs, "--quiet",
                            "--output-on-failure", "-E", LEFT_OUT], cwd=ROOT, env=environment,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if tests.returncode != 0:
        sys.exit(tests.stdout)


def exported(profiles):
    """What llvm-cov says, as the parsed JSON."""
    merged = BUILD / "coverage.profdata"
    subprocess.run(["llvm-profdata-19", "merge", "-o", merged, *profiles.glob("*/*.profraw")], check=True)
    first, *others = [path for path in sorted((BUILD / "tests").iterdir())
                      if path.is_file() and os.access(path, os.X_OK)]
    answer = subprocess.run(
        ["llvm-cov-19", "export", "-format=text", f"-instr-profile={merged}", first,
         *[f"-object={program}" for program in others], *[ROOT / part for part in PARTS]],
        stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout)["data"][0]


def is_counted(name):
    return name.startswith(tuple(f"{part}/" for part in PARTS)) and not name.endswith("_test.cc")


def outcomes(data):
    """How often each condition was true and false: {(file, line, column): [true, false]}."""
    counts = defaultdict(lambda: [0, 0])
    for function in data["functions"]:
        files = [os.path.relpath(name, ROOT) for name in function["filenames"]]
        # A condition inside of a macro belongs to the place that uses the macro.
        places = {region[6]: (region[5], *region[:2]) for region in function["regions"]
                  if region[7] == 1}
        for line, column, _, _, true, false, file, _, _ in function["branches"]:
            while file in places:
                file, line, column = places[file]
            if is_counted(files[file]):
                count = counts[files[file], line, column]
                count[0] += true
                count[1] += false
    return counts


def uncovered(counts):
    """The outcomes never seen, as tests/uncovered.txt names them."""
    found = []
    for (name, line, _), count in sorted(counts.items()):
        source = (ROOT / name).read_text().splitlines()[line - 1].strip()
        found += [f"{name}: never {outcome}: {source}"
                  for outcome, times in zip(("true", "false"), count) if times == 0]
    return Counter(found)


def reasons():
    """The lines of tests/uncovered.txt, and those among them that may also be taken."""
    required, allowed = Counter(), Counter()
    for group in REASONS.read_text().strip().split("\n\n"):
        lines = (line for line in group.splitlines() if not line.startswith("# "))
        (allowed if group.startswith("# Sometimes: ") else required).update(lines)
    return required, allowed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    parser.add_argument("--again", action="store_true", help="report on what the last run counted")
    arguments = parser.parse_args()
    profiles = BUILD / "profiles"
    if not arguments.again:
        run_tests(profiles, arguments.jobs)
    counts = outcomes(exported(profiles))
    missed = uncovered(counts)
    required, allowed = reasons()
    for part in PARTS:
        taken = sum((times != 0) for (name, *_), count in counts.items() if name.startswith(part)
                    for times in count)
        total = 2 * sum(name.startswith(part) for name, *_ in counts)
        print(f"{part}: {taken} of {total} outcomes, {100 * taken / max(total, 1):.1f} %")
    without_reason = missed - required - allowed
    without_need = required - missed
    for text, lines in (("without a reason", without_reason), ("with a reason, but taken", without_need)):
        for line in sorted(lines.elements()):
            print(f"{text}: {line}")
    return 1 if without_reason or without_need else 0


if __name__ == "__main__":
    sys.exit(main())
