#!/bin/sh
# Compares the demo's ranking report and logits with what PyTorch computed from the same checkpoint.
# usage: demo_ranking.sh TREE BUILD_FOLDER
set -eu
model=$1/examples/data/kuairand-pure-ranking

# Every number of every task within 1e-4 of eval.json's; counts exactly.
awk '
function number(text) {
    sub(/^[^:]*:[ \t]*/, "", text)
    sub(/,$/, "", text)
    return text
}
{
    name = $0
    sub(/^[ \t]*"/, "", name)
    sub(/".*/, "", name)
}
/"[a-z_]*": *\{$/ { task = name; next }
task ~ /^(is_|long_view)/ && name ~ /^(auc|positives|negatives|gauc|gauc_users|log_loss|normalised_entropy|label_rate)$/ {
    if (NR == FNR) {
        reference[task, name] = number($0)
        n_reference++
    } else if ((task, name) in reference) {
        n++
        gap = number($0) - reference[task, name]
        if (gap > 1e-4 || gap < -1e-4) {
            print task " " name ": " number($0) ", PyTorch has " reference[task, name]
            wrong++
        }
        if (name == "auc")
            auc = auc sprintf(" %s %.4f", task, number($0))
    }
}
END {
    print "demo_ranking: AUC" auc
    printf "demo_ranking: %d figures of %d, %d differ from PyTorch\n", n, n_reference, wrong
    exit n != n_reference || n != 64 || wrong > 0
}' "$model/eval.json" "$2/demo/ranking.json"

# The first users of --output stand in logits.csv, in the same order.
awk -F , '
NR == FNR { expected[FNR] = $0; n_expected = FNR; next }
FNR <= n_expected {
    split(expected[FNR], x, ",")
    for (i = 1; i <= NF; i++) {
        gap = i > 3 ? $i - x[i] : $i != x[i]
        if (FNR == 1 ? $i != x[i] : gap > 1e-4 || gap < -1e-4)
            wrong++
        most = FNR > 1 && gap > most ? gap : most
    }
    n++
}
END {
    printf "demo_ranking: %d rows of logits of %d, %d values differ from PyTorch, at most by %g\n", n, n_expected, wrong, most
    exit n != n_expected || n < 1000 || wrong > 0
}' "$model/logits.csv" "$2/demo/candidates.csv"
