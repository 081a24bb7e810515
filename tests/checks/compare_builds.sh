#!/bin/sh
# tools/compare_builds.py: a line for each build and row, and one sentence for a program that is not there or fails. Skipped where no
# python3 is at hand.
# usage: compare_builds.sh TREE HSTU
set -eu
compare=$1/tools/compare_builds.py
hstu=$2
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }

table=$("$compare" --seconds 0.2 --slice_ms 20 "$hstu" "$hstu" -- --shape pure --history 16,40 --threads 1)
[ "$(echo "$table" | grep -c "| \(16\|40\) | fp32 | 1 | $hstu |")" -eq 4 ] || { echo "$table"; exit 1; }
# more than a pipe holds
[ "$("$compare" --seconds 0.001 "$hstu" -- --shape pure --history 8..70+2 --candidates 1,2 --repetitions 1 --threads 1 | wc -l)" -eq 66 ]

# refused WORDS OPTION...: one line on stderr, with WORDS in it, none on stdout, and a status that says so
refused() {
    words=$1
    shift
    if out=$("$compare" "$@" 2>&1); then
        echo "not refused: $*"
        exit 1
    fi
    [ "$(echo "$out" | wc -l)" -eq 1 ] && echo "$out" | grep -q -- "$words" || { echo "$* said: $out"; exit 1; }
}
refused 'nothing_here' "$hstu" nothing_here
refused 'option --shape wants' "$hstu" "$hstu" -- --shape none
