#!/bin/sh
# Runs the demo and checks what a person sees: standard output is one JSON object with a true hit rate, that of ranks.csv.
# usage: demo.sh TREE BUILD_FOLDER
set -eu
tree=$1
build=$2
out=$build/demo/report.json
mkdir -p "$build/demo"
HSTU_BUILD=$build "$tree/scripts/demo" --output "$build/demo/users.csv" --top_k 10 >"$out"

# The value of a top-level key of the report.
value() {
    sed -n 's/^[[:space:]]*"'"$1"'":[[:space:]]*"\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$out"
}
expect() {
    if [ "$(value "$1")" != "$2" ]; then
        echo "demo: $1: expected $2, found '$(value "$1")' in $out" >&2
        exit 1
    fi
}
if [ "$(head -c 1 "$out")$(tail -n 1 "$out")" != "{}" ]; then
    echo "demo: standard output is not one JSON object: see $out" >&2
    exit 1
fi
expect model_downloaded true
expect requests 2931
expect vocab_size "$(gzip -dc "$tree"/examples/data/kuairand-pure-sample/KuaiRand-Pure/data/log_*.gz |
    awk -F , 'NR > 1 && $2 > max {max = $2} END {print max + 1}')"
rate=$(awk -F , 'NR > 1 {n++; hit += $3 <= 10} END {printf "%.6f", hit / n}' \
    "$tree/examples/data/kuairand-pure-hstu/ranks.csv")
awk -v ours="$(value hit_rate)" -v reference="$rate" 'BEGIN {
    gap = ours - reference
    printf "demo: hit rate at 10: %s, the reference has %s\n", ours, reference
    exit !(ours != "" && gap <= 1e-4 && gap >= -1e-4)
}'
