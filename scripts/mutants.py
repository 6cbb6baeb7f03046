#!/usr/bin/env python3
"""Puts each bug of tests/mutants/ back, one at a time, and sees whether a test notices.

  scripts/mutants.py [--only WORD...] [--markdown FILE] [--jobs N]

A mutant is a patch that begins with two lines:

  Bug: what is wrong with it
  Killed by: TARGET FILTER       the test program and the tests (--gtest_filter) that notice first

Those tests run first; only where they do not notice, all others do. They have to pass without the
patch. Works in build/mutants on a copy of the tree as it is. Exit code: 0 if every mutant was
killed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
SOURCE = WORK / "source"
BUILD = WORK / "build"
# A waiter left asleep is noticed by this: how long tests may take that have not been seen to end,
# and how many times as long as before.
SECONDS_MAX = 1800
TIMES_MAX = 5


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **options)


def must(command, **options):
    done = run(command, **options)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(map(str, command))}")
    return done


def copy_tree():
    names = must(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                 cwd=ROOT).stdout.split("\n")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    for old in SOURCE.rglob("*"):
        if old.is_file() and str(old.relative_to(SOURCE)) not in wanted:
            old.unlink()
    for name in wanted:
        source, target = ROOT / name, SOURCE / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue  # its time stays, so it is not built again
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def configure():
    warnings = "-Wall -Wextra"
    must(["cmake", "-S", SOURCE, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
          "-DCMAKE_CXX_COMPILER=g++", f"-DCMAKE_CXX_FLAGS={warnings} -O2 -g0"])


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = path.stem
        text = path.read_text()
        self.bug = re.search(r"^Bug: (.*(?:\n  .*)*)", text, re.M).group(1).replace("\n  ", " ")
        killers = re.findall(r"^Killed by: (\S+) (\S+)$", text, re.M)
        if not killers:
            sys.exit(f"{path}: no line 'Killed by: TARGET FILTER'")
        self.killers = killers
        self.files = [SOURCE / name for name in re.findall(r"^\+\+\+ b/(\S+)", text, re.M)]

    def apply(self):
        """Keeps what the files were: undoing a patch by its context may find another place."""
        self.before = {file: file.read_bytes() for file in self.files}
        return run(["patch", "-p1", "--batch", "--no-backup-if-mismatch", "-r", "-",
                    "-i", self.path], cwd=SOURCE)

    def undo(self):
        for file, content in self.before.items():
            file.write_bytes(content)


def build(targets, jobs):
    return run(["cmake", "--build", BUILD, "--parallel", str(jobs), "--target", *targets])


def noticed(target, test_filter, jobs, seconds_max):
    """The first test that fails, or None. Runs the tests in as many processes as `jobs`."""
    command = [BUILD / "tests" / target, f"--gtest_filter={test_filter}", "--gtest_brief=1",
               "--gtest_fail_fast"]
    outputs = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(jobs)]
    # What a test that is ended leaves behind is left there.
    shards = [subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=BUILD,
                               env={**os.environ, "GTEST_TOTAL_SHARDS": str(jobs),
                                    "GTEST_SHARD_INDEX": str(index)})
              for index, output in enumerate(outputs)]
    try:
        deadline = time.monotonic() + seconds_max
        while any(shard.poll() is None for shard in shards):
            if time.monotonic() > deadline:
                return f"{test_filter} (never ends)"
            if any(shard.poll() not in (None, 0) for shard in shards):
                break
            time.sleep(0.02)
    finally:
        for shard in shards:
            shard.kill()
            shard.wait()
    tests = 0
    for shard, output in zip(shards, outputs):
        output.seek(0)
        text = output.read()
        if shard.returncode not in (0, -signal.SIGKILL):
            failed = re.search(r"^\[  FAILED  \] ([^\s,(]+)", text, re.M)
            return failed.group(1) if failed else f"{test_filter} (dies, {shard.returncode})"
        tests += int(re.search(r"\[  PASSED  \] (\d+) test", text + "[  PASSED  ] 0 test").group(1))
    if tests == 0:
        sys.exit(f"{target}: no test is called {test_filter}")
    return None


def noticed_by_all(jobs):
    must(["cmake", "--build", BUILD, "--parallel", str(jobs)])
    done = run(["ctest", "--test-dir", BUILD, "--parallel", str(jobs), "--timeout",
                str(SECONDS_MAX), "--stop-on-failure", "-E", "crash_hunt|installed_package"])
    failed = re.search(r"^\s*\d+ - (\S+) \(", done.stdout, re.M)
    return failed.group(1) if done.returncode != 0 and failed else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""],
                        help="those with one of these in their name")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    mutants = [Mutant(path) for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))
               if any(word in path.name for word in arguments.only)]
    SOURCE.mkdir(parents=True, exist_ok=True)
    copy_tree()
    configure()
    targets = sorted({target for mutant in mutants for target, _ in mutant.killers})
    built = build(targets, arguments.jobs)
    if built.returncode != 0:
        sys.exit(built.stdout)
    seconds_max = {}
    for killer in sorted({killer for mutant in mutants for killer in mutant.killers}):
        began = time.monotonic()
        if (failed := noticed(*killer, arguments.jobs, SECONDS_MAX)) is not None:
            sys.exit(f"{failed} of {killer[0]} fails without any patch")
        seconds_max[killer] = 20 + TIMES_MAX * (time.monotonic() - began)

    rows, survivors = [], 0
    for mutant in mutants:
        began = time.monotonic()
        applied = mutant.apply()
        if applied.returncode != 0:
            sys.exit(f"{mutant.path} does not apply:\n{applied.stdout}")
        try:
            built = build([target for target, _ in mutant.killers], arguments.jobs)
            if built.returncode != 0:
                sys.exit(f"{mutant.path} does not build:\n{built.stdout}")
            test = None
            for killer in mutant.killers:
                test = test or noticed(*killer, arguments.jobs, seconds_max[killer])
            test = test or noticed_by_all(arguments.jobs)
        finally:
            mutant.undo()
        survivors += test is None
        print(f"{'SURVIVES' if test is None else 'killed'}  {mutant.name}  "
              f"{test or ''}  {time.monotonic() - began:.0f} s", flush=True)
        rows.append(f"| `{mutant.name}` | {mutant.bug} | {f'`{test}`' if test else '**survives**'} |")
    print(f"{len(mutants) - survivors} of {len(mutants)} killed")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(["| mutant | bug | noticed by |", "|---|---|---|",
                                                 *rows]) + "\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
