#!/usr/bin/env python3
"""Draws the time of a request against the length of its history, from rows of `hstu bench --json`, beside the fit of
a + b n + c n^2 that the mathematics promises (linear layers, attention), and prints the row that is farthest from it.

Rows are fitted in their relative error, with a, b, c >= 0, apart for each dtype, number of threads, instruction set and
share of cached tokens. Usage: plot_bench.py ROWS.json PICTURE.svg|PICTURE.png [--time best|median] [--most PERCENT].
With --most it ends with an error when a row is farther from its fit. Needs matplotlib, and nothing else."""
import argparse
import itertools
import json
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["svg.hashsalt"] = "hstu"
import matplotlib.pyplot as pyplot
import numpy


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows")
    parser.add_argument("picture")
    parser.add_argument("--time", choices=["best", "median"], default="best")
    parser.add_argument("--most", type=float, metavar="PERCENT")
    return parser.parse_args()


def series_of(rows, time):
    """Lengths and milliseconds by the names of what is otherwise equal."""
    series = {}
    for row in rows:
        cached = row["cached"] / row["history"]
        name = f"{row['dtype']}, {row['isa']}, {row['threads']} threads"
        if row["batch"] > 1:
            name += f", batch {row['batch']}"
        if cached > 0.005:
            name += f", {cached:.0%} cached"
        series.setdefault(name, []).append((row["history"], row["ms"][time]))
    for name, points in series.items():
        if len({n for n, _ in points}) != len(points):
            sys.exit(f"plot_bench: {name}: two rows of one length; rows may differ in history, dtype, isa, threads, batch "
                     "and cached alone")
        if len(points) < 4:
            sys.exit(f"plot_bench: {name}: {len(points)} lengths, a fit needs 4 or more")
    return {name: numpy.array(sorted(points)).T for name, points in series.items()}


def fit(n, ms):
    """a, b, c >= 0 with the least sum of squared relative errors: of the subsets of terms whose solution is, the best."""
    terms = numpy.stack([numpy.ones_like(n), n, n * n]) / ms
    best = None
    for used in itertools.chain.from_iterable(itertools.combinations(range(3), k) for k in (1, 2, 3)):
        x, *_ = numpy.linalg.lstsq(terms[list(used)].T, numpy.ones_like(n), rcond=None)
        if (x < 0).any():
            continue
        all_terms = numpy.zeros(3)
        all_terms[list(used)] = x
        error = ((all_terms @ terms - 1) ** 2).sum()
        if best is None or error < best[0]:
            best = (error, all_terms)
    return best[1]


def predict(terms, n):
    a, b, c = terms
    return a + b * n + c * n * n


def draw(series, fits, picture, title, time):
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8, 7), sharex=True, height_ratios=[3, 1], layout="constrained")
    for i, (name, (n, ms)) in enumerate(series.items()):
        line = numpy.geomspace(n[0], n[-1], 200)
        deviation = 100 * (ms / predict(fits[name], n) - 1)
        top.loglog(n, ms, "o", color=f"C{i}", markersize=4, label=name)
        top.loglog(line, predict(fits[name], line), "-", color=f"C{i}", linewidth=1)
        bottom.semilogx(n, deviation, "o-", color=f"C{i}", markersize=3, linewidth=0.7)
    lengths = numpy.concatenate([n for n, _ in series.values()])
    ticks = 2 ** numpy.arange(numpy.floor(numpy.log2(lengths.min())), numpy.ceil(numpy.log2(lengths.max())) + 1)
    bottom.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    bottom.set_xticks([], minor=True)
    top.set_ylabel(f"ms a request, {time}; lines: a + b n + c n²")
    top.set_title(title, fontsize=9)
    top.legend(fontsize=8)
    bottom.set_xlabel("n, tokens of history")
    bottom.set_ylabel("off the line, %")
    for axes in (top, bottom):
        axes.grid(True, which="both", linewidth=0.3)
    figure.savefig(picture, metadata={"Date": None} if picture.endswith(".svg") else None)
    if picture.endswith(".svg"):  # matplotlib ends lines with blanks
        with open(picture, encoding="utf-8") as file:
            lines = [line.rstrip() for line in file]
        with open(picture, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def main():
    arguments = parse_arguments()
    with open(arguments.rows, encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    if not rows:
        sys.exit("plot_bench: no rows")
    series = series_of(rows, arguments.time)
    fits = {name: fit(n, ms) for name, (n, ms) in series.items()}
    worst = 0
    for name, (n, ms) in series.items():
        deviation = 100 * (ms / predict(fits[name], n) - 1)
        at = numpy.abs(deviation).argmax()
        worst = max(worst, abs(deviation[at]))
        a, b, c = fits[name]
        print(f"{name}: {a:.3g} ms + {1e6 * b:.4g} ns n + {1e6 * c:.4g} ns n^2; farthest from it {deviation[at]:+.1f} % "
              f"at {n[at]:.0f} tokens ({ms[at]:.4g} ms)")
    row = rows[0]
    shape = f"{row['layers']} layers, D {row['dim']}, {row['heads']} heads of {row['head_dim']}"
    if row["family"] == "ranking":
        shape += f", {row['candidates']} candidates"
    title = f"{row['family']}: {shape}\n{row['cpu'] or 'unknown processor'}, {row['cores']} cores"
    if row["commit"]:
        title += f", commit {row['commit']}"
    draw(series, fits, arguments.picture, title, arguments.time)
    if arguments.most is not None and worst > arguments.most:
        sys.exit(f"plot_bench: {worst:.1f} % is above the {arguments.most:g} % that --most allows")


main()
