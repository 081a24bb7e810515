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
import os
import signal
import subprocess
import sys


def start(build, options, seconds):
    command = [build, "bench", "--json", "--quiet", "--peak_ms", "0", "--min_ms", str(int(seconds * 1000)), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.kill(process.pid, signal.SIGSTOP)
    return process


def rows_of(build, process):
    out, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"compare_builds.py: {build} ended with {process.returncode}: {errors.decode().strip()}")
    return json.loads(out)["rows"]


def take_turns(processes, slice_s):
    """Until one has ended. Then the others, unless it failed, have measured nearly as long."""
    for process in itertools.cycle(processes):
        os.kill(process.pid, signal.SIGCONT)
        try:
            process.wait(slice_s)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGSTOP)
    for other in processes:
        if process.returncode == 0 and other.poll() is None:
            os.kill(other.pid, signal.SIGCONT)
            other.wait()


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
    processes = []
    try:
        for build in options.build:
            processes.append(start(build, bench, options.seconds))
        take_turns(processes, options.slice_ms / 1000)
        ended = sorted(zip(options.build, processes), key=lambda run: run[1].poll() in (None, 0))  # failures first
        rows = {process: rows_of(build, process) for build, process in ended}
        results = [rows[process] for process in processes]
    except OSError as error:
        sys.exit(f"compare_builds.py: {error}")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
    print("| shape | history | dtype | threads | build | calls | best, ms | p10 | median | to the first |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for rows in zip(*results):
        for build, row in zip(options.build, rows):
            ms, first = row["call_ms"], rows[0]["call_ms"]
            print(
                f"| {row['shape']} | {row['history']} | {row['dtype']} | {row['threads']} | {build} | {row['repetitions']} "
                f"| {ms['best']:.3f} | {ms['p10']:.3f} | {ms['median']:.3f} | {ms['median'] / first['median']:.3f} |"
            )


if __name__ == "__main__":
    main()
