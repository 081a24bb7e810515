#!/bin/sh
# Compares the demo's rank of every user with the reference's evaluation of the same checkpoint.
# usage: demo_ranks.sh TREE BUILD_FOLDER
set -eu
awk -F , '
FNR == 1 {
    for (i = 1; i <= NF; i++)
        column[FILENAME, $i] = i
    next
}
NR == FNR {
    user = $column[FILENAME, "user_id"]
    target[user] = $column[FILENAME, "target_id"]
    low[user] = $column[FILENAME, "rank_lo"]
    high[user] = $column[FILENAME, "rank_hi"]
    rank[user] = $column[FILENAME, "rank"]
    n_reference++
    next
}
{
    user = $column[FILENAME, "user_id"]
    # The reference calls a filtered target and a rank behind 2500 the same: 2501.
    ours = $column[FILENAME, "rank"]
    if (ours == 0 || ours > 2500)
        ours = 2501
    n++
    differ += ours != rank[user]
    if (!(user in rank) || $column[FILENAME, "target"] + 1 != target[user]) {
        print "user " user ": target " $column[FILENAME, "target"] ", the reference has model id " target[user]
        wrong++
    } else if (ours < low[user] || ours > high[user]) {
        print "user " user ": rank " ours ", the reference allows " low[user] " to " high[user]
        wrong++
    }
}
END {
    printf "demo_ranks: %d users of %d, %d ranks differ from the reference, %d outside its tolerance\n",
        n, n_reference, differ, wrong
    exit n != n_reference || wrong > 0
}' "$1/examples/data/kuairand-pure-hstu/ranks.csv" "$2/demo/users.csv"
