#!/bin/sh
# Runs the demo and checks what a person sees: standard output is one JSON object with two reports; each model alone gives its
# report and a file per user, and a replay its report. The retrieval report's hit rate is that of ranks.csv.
# usage: demo.sh TREE BUILD_FOLDER STEPS    the replay's
set -eu
tree=$1
build=$2
steps=$3
mkdir -p "$build/demo"
export HSTU_BUILD="$build"

object() {
    if [ "$(head -c 1 "$1")$(tail -n 1 "$1")" != "{}" ]; then
        echo "demo: standard output is not one JSON object: see $1" >&2
        exit 1
    fi
}
# The value of a top-level key of a report.
value() {
    sed -n 's/^[[:space:]]*"'"$2"'":[[:space:]]*"\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$build/demo/$1.json"
}
expect() {
    if [ "$(value "$1" "$2")" != "$3" ]; then
        echo "demo: $2: expected $3, found '$(value "$1" "$2")' in $build/demo/$1.json" >&2
        exit 1
    fi
}

"$tree/scripts/demo" >"$build/demo/both.json"
object "$build/demo/both.json"
for family in retrieval ranking; do
    if [ "$(grep -c "^ *\"family\": *\"$family\"" "$build/demo/both.json")" != 1 ]; then
        echo "demo: expected one report of the family $family in $build/demo/both.json" >&2
        exit 1
    fi
done

"$tree/scripts/demo" retrieval --output "$build/demo/users.csv" --top_k 10 >"$build/demo/retrieval.json"
object "$build/demo/retrieval.json"
expect retrieval model_downloaded true
expect retrieval requests "$(awk 'END {print NR - 1}' "$tree/examples/data/kuairand-pure-hstu/ranks.csv")"
expect retrieval vocab_size "$(gzip -dc "$tree"/examples/data/kuairand-pure-sample/KuaiRand-Pure/data/log_*.gz |
    awk -F , 'NR > 1 && $2 > max {max = $2} END {print max + 1}')"

"$tree/scripts/demo" ranking --output "$build/demo/candidates.csv" >"$build/demo/ranking.json"
object "$build/demo/ranking.json"
expect ranking requests 674

"$tree/scripts/demo" replay --steps "$steps" --kv_cache --verify_cache 100 >"$build/demo/replay.json"
object "$build/demo/replay.json"
expect replay num_batches "$steps"
expect replay differences 0

rate=$(awk -F , 'NR > 1 {n++; hit += $3 <= 10} END {printf "%.6f", hit / n}' \
    "$tree/examples/data/kuairand-pure-hstu/ranks.csv")
awk -v ours="$(value retrieval hit_rate)" -v reference="$rate" 'BEGIN {
    gap = ours - reference
    printf "demo: hit rate at 10: %s, the reference has %s\n", ours, reference
    exit !(ours != "" && gap <= 1e-4 && gap >= -1e-4)
}'
