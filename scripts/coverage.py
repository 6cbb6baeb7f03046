#!/usr/bin/env python3
"""Which branches of the log's core no test takes: scripts/coverage.py [--jobs N]

Runs the tests of build/coverage and prints, for src/format, src/segment and src/log, how many of the
conditions' two outcomes were seen, then those that were not: the place, the outcome, and the reason
that tests/uncovered.txt gives. Fails on one without a reason, and on a reason that is not needed.
The processes that tests kill and fork count too: their counters lie in shared mappings.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "coverage"
REASONS = ROOT / "tests" / "uncovered.txt"
PARTS = ["src/format", "src/segment", "src/log"]
# They measure: more of the same, and no other branch.
LEFT_OUT = "crash_hunt"


def run_tests(profiles, jobs):
    profiles.mkdir(exist_ok=True)
    for old in profiles.iterdir():
        old.unlink()
    # %m: a file for each program; %c: mapped, so that nothing has to be written at its end.
    environment = dict(os.environ, LLVM_PROFILE_FILE=str(profiles / "%m%c.profraw"))
    subprocess.run(["ctest", "--preset", "coverage", "--parallel", jobs, "--quiet",
                    "--output-on-failure", "-E", LEFT_OUT], cwd=ROOT, env=environment, check=True)


def programs():
    """The executables, those of the tests and those they start."""
    return [path for path in sorted((BUILD / "tests").iterdir())
            if path.is_file() and os.access(path, os.X_OK)]


def exported(profiles):
    """What llvm-cov says, as the parsed JSON."""
    merged = BUILD / "coverage.profdata"
    subprocess.run(["llvm-profdata-19", "merge", "-o", merged, *profiles.glob("*.profraw")], check=True)
    first, *others = programs()
    answer = subprocess.run(
        ["llvm-cov-19", "export", "-format=text", f"-instr-profile={merged}", first,
         *[f"-object={program}" for program in others], *[ROOT / part for part in PARTS]],
        stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout)["data"][0]


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
            name = files[file]
            if name.startswith(tuple(f"{part}/" for part in PARTS)) and not name.endswith("_test.cc"):
                count = counts[name, line, column]
                count[0] += true
                count[1] += false
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    parser.add_argument("--again", action="store_true", help="report on what the last run counted")
    arguments = parser.parse_args()
    profiles = BUILD / "profiles"
    if not arguments.again:
        run_tests(profiles, arguments.jobs)
    counts = outcomes(exported(profiles))
    totals = defaultdict(lambda: [0, 0])
    for (name, line, column), count in sorted(counts.items()):
        part = next(part for part in PARTS if name.startswith(part))
        totals[part][0] += 2
        source = (ROOT / name).read_text().splitlines()[line - 1]
        for outcome, times in zip(("true", "false"), count):
            if times == 0:
                totals[part][1] += 1
                print(f"{name}:{line}:{column}: never {outcome}: {source.strip()}")
    for part, (branches, missed) in totals.items():
        print(f"{part}: {branches - missed} of {branches}, "
              f"{100 * (branches - missed) / max(branches, 1):.1f} %")


if __name__ == "__main__":
    sys.exit(main())
