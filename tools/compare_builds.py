#!/usr/bin/env python3
"""Builds of hstu on one machine, so that a neighbour who slows it slows all of them alike.

All run `hstu bench` with the same options at the same time, but only one of them at any moment: the others are stopped
(SIGSTOP), and every --slice_ms it is the next one's turn. The call that a stop falls into counts as a long one, so a
slice should hold ten calls or more, and medians, not means, are compared. Prints a Markdown table; the last column is
the median divided by the first build's. Name a build twice to see what the noise is.

    tools/compare_builds.py old/cli/hstu new/cli/hstu old/cli/hstu -- --shape kr1k_cached --dtype bf16 --threads 16
"""
import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile


class Run:
    """A build's bench. What it prints goes to files: nobody reads meanwhile, and a full pipe would stop it for good."""

    def __init__(self, build, options, seconds):
        self.build, self.out, self.errors = build, tempfile.TemporaryFile(), tempfile.TemporaryFile()
        command = [build, "bench", "--json", "--quiet", "--peak_ms", "0", "--min_ms", str(int(seconds * 1000)), *options]
        self.process = subprocess.Popen(command, stdout=self.out, stderr=self.errors)
        self.process.send_signal(signal.SIGSTOP)

    def check(self):
        if self.process.poll():
            self.errors.seek(0)
            words = self.errors.read().decode().strip()
            sys.exit(f"compare_builds.py: {self.build} ended with {self.process.returncode}: {words}")

    def rows(self):
        self.out.seek(0)
        return json.load(self.out)["rows"]


def take_turns(runs, slice_s):
    """Until one has ended; then the others have measured nearly as long."""
    for run in itertools.cycle(runs):
        run.process.send_signal(signal.SIGCONT)
        try:
            run.process.wait(slice_s)
            break
        except subprocess.TimeoutExpired:
            run.process.send_signal(signal.SIGSTOP)
    for run in runs:
        run.check()
    for run in runs:
        run.process.send_signal(signal.SIGCONT)
        run.process.wait()
        run.check()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="in all, for each row of the bench (default: 10)")
    parser.add_argument("--slice_ms", type=float, default=200, help="a turn (default: 200)")
    parser.add_argument("build", nargs="+", help="an hstu program")
    own, bench = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, bench = own[:at], own[at + 1 :]
    options = parser.parse_args(own)
    if not options.seconds > 0 or not options.slice_ms > 0:
        parser.error("--seconds and --slice_ms must be greater than 0")
    return options, bench


def main():
    options, bench = arguments()
    runs = []
    try:
        for build in options.build:
            runs.append(Run(build, bench, options.seconds))
        take_turns(runs, options.slice_ms / 1000)
    except OSError as error:
        sys.exit(f"compare_builds.py: {error}")
    finally:
        for run in runs:
            run.process.kill()
    print("| shape | history | dtype | threads | build | calls | best, ms | p10 | median | to the first |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for rows in zip(*(run.rows() for run in runs)):
        for build, row in zip(options.build, rows):
            ms, first = row["call_ms"], rows[0]["call_ms"]
            print(
                f"| {row['shape']} | {row['history']} | {row['dtype']} | {row['threads']} | {build} | {row['repetitions']} "
                f"| {ms['best']:.3f} | {ms['p10']:.3f} | {ms['median']:.3f} | {ms['median'] / first['median']:.3f} |"
            )


if __name__ == "__main__":
    main()
