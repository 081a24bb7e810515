#!/bin/sh
# The bench of the recording device still builds against the library, and in small, where there is an ONNX Runtime, what it
# checks while it measures holds: no graph is compiled behind the warm-up, the whole pages of a cached history stay bound.
# Exit status 77: built, but not run.
# usage: bench_npu_overhead.sh TREE BUILD_FOLDER C_COMPILER
set -eu
tree=$1
build=$2
cc=$3
# shellcheck disable=SC2046 # one word a flag
$cc -std=c11 -O1 -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L "-I$tree/include" "$tree/bench/npu_overhead.c" \
    "$build/src/libhstu.a" $(pkg-config --libs libcjson libxxhash zlib) -lpthread -ldl -lm \
    -o "$build/npu_overhead_check"
if ! "$build/npu_overhead_check" --events 40 --repetitions 3 --threads 1 >"$build/npu_overhead_check.md" \
    2>"$build/npu_overhead_check.err"; then
    cat "$build/npu_overhead_check.err"
    grep -q 'ONNX Runtime was not found' "$build/npu_overhead_check.err" && exit 77
    exit 1
fi
grep -q '^| kr1k_2k | ort-cpu | fp32 | 1 | 86 | 0 | 100 |.* | 0\.000 |$' "$build/npu_overhead_check.md"
grep -q '^| kr1k_cached | ort-cpu | fp32 | 1 | 86 | 84 | 100 |.* | 0\.786 |$' "$build/npu_overhead_check.md"
