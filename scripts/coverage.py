#!/usr/bin/env python3
"""Which branches of the log's core no test takes: scripts/coverage.py [--jobs N]

Builds build/coverage, runs the tests there, and prints for src/format, src/segment and src/log how
many branches were taken, then each line with one that was not. Branches that only an exception
takes do not count. docs/testing.md#coverage says why those left are left.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "coverage"
# Unoptimized, the same crashes again and again take most of an hour, and reach no other branch.
LEFT_OUT = "CrashedRecoveryTest|crash_hunt|CrashPointsTest.*/(Reopening|Deleting|Rotating|Killed)"
PARTS = ["src/format", "src/segment", "src/log"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    jobs = parser.parse_args().jobs
    for counts in BUILD.rglob("*.gcda"):
        counts.unlink()
    subprocess.run(["ctest", "--preset", "coverage", "--parallel", jobs, "--quiet",
                    "--output-on-failure", "-E", LEFT_OUT], cwd=ROOT, check=True)
    report = BUILD / "coverage.json"
    subprocess.run(["gcovr", "--root", ROOT, "--json", report, "--exclude-throw-branches",
                    "--exclude-unreachable-branches", "-j", jobs, "--exclude", r".*_test\.cc",
                    *[f"--filter={part}/" for part in PARTS], BUILD], cwd=ROOT, check=True)

    left = []
    totals = {part: [0, 0] for part in PARTS}
    for file in json.loads(report.read_text())["files"]:
        name = file["file"]
        part = next(part for part in PARTS if name.startswith(part))
        source = (ROOT / name).read_text().splitlines()
        for line in file["lines"]:
            branches = [branch for branch in line["branches"] if not branch.get("throw")]
            missed = sum(branch["count"] == 0 for branch in branches)
            totals[part][0] += len(branches)
            totals[part][1] += missed
            if missed:
                number = line["line_number"]
                left.append(f"{name}:{number}: {missed} of {len(branches)}: "
                            f"{source[number - 1].strip()}")
    print("\n".join(left))
    for part, (branches, missed) in totals.items():
        print(f"{part}: {branches - missed} of {branches} branches taken, "
              f"{100 * (branches - missed) / max(branches, 1):.1f} %")


if __name__ == "__main__":
    sys.exit(main())
