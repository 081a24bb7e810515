#!/bin/sh
# The KV cache's bench still builds against the library, and what it checks while it measures holds in small.
# usage: bench_kv_cache.sh TREE BUILD_FOLDER C_COMPILER
set -eu
tree=$1
build=$2
cc=$3
# shellcheck disable=SC2046 # one word a flag
$cc -std=c11 -O1 -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L "-I$tree/include" "$tree"/bench/kv_*.c \
    "$build/src/libhstu.a" $(pkg-config --libs libcjson libxxhash zlib) -lpthread -ldl -lm -o "$build/kv_bench_check"
"$build/kv_bench_check" --events 60 --repetitions 2 --threads 2 | grep -c 'all cached' | grep -qx 2
"$build/kv_bench_check" --users 700 --threads 2 | grep -q '| 32 | 700 | 22400 |'
"$build/kv_bench_check" --lengths "$build/demo/KuaiRand-Pure/sequences.safetensors" --threads 2 | grep -q '^| 128 |'
