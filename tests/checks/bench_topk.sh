#!/bin/sh
# The bench of top-k still builds against the library, and answers in small.
# usage: bench_topk.sh TREE BUILD_FOLDER C_COMPILER
set -eu
tree=$1
build=$2
cc=$3
# shellcheck disable=SC2046 # one word a flag
$cc -std=c11 -O1 -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L "-I$tree/include" "-I$tree/src" "-I$tree" "$tree/bench/topk.c" \
    "$tree/cli/bench_peak.c" "$build/src/libhstu.a" $(pkg-config --libs libcjson libxxhash zlib) -lpthread -ldl -lm \
    -o "$build/topk_check"
"$build/topk_check" --items 3000 --dim 50 --batch 1,9 --k 5 --rounds 1 --threads 2 | grep -c '^| [19] |' | grep -qx 2
"$build/topk_check" --items 300 --dim 33 --batch 3 --dtype fp32 --rounds 1 --threads 1 | grep -q '^| 3 |'
! "$build/topk_check" --batch 0 2>/dev/null
