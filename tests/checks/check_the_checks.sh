#!/bin/sh
# Breaks each rule once in a small tree and expects the checking tool to name the place.
# usage: check_the_checks.sh TREE
set -eu
tree=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# A tree that keeps every rule: two modules, one public header.
fresh() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree/src/base" "$work/tree/src/data" "$work/tree/cli" "$work/tree/docs" "$work/tree/include/hstu"
    cd "$work/tree"
    mkdir cmake scripts tools tests examples .ci
    touch CMakeLists.txt Makefile README.md CONTRIBUTING.md NOTICE
    cp "$tree/.clang-format" .
    printf 'base:\ndata: base\ncli: base\nhstu/status.h: all\n<zlib.h>: data\n' >docs/layers.txt
    printf '/* A public header. */\n#include <stdint.h>\ntypedef int32_t hstu_thing;\n' >include/hstu/status.h
    printf '#include "hstu/status.h"\n' >src/base/a.h
    printf '#include "base/a.h"\n\n#include <stdio.h>\n#include <zlib.h>\n' >src/data/b.c
    printf '#include "base/a.h"\n' >cli/main.c
}

# breaks TOOL EXPECTED FILE LINE: adds the line to the file and expects the tool to fail with the text.
breaks() {
    fresh
    printf '%b\n' "$4" >>"$3"
    if "$tree/tools/$1" . >"$work/log" 2>&1 || ! grep -q "$2" "$work/log"; then
        echo "$1 did not find '$4' in $3 ($2); it said:"
        cat "$work/log"
        failures=$((failures + 1))
    fi
}

fresh
for tool in check_layers check_source; do
    "$tree/tools/$tool" . >"$work/log" 2>&1 || {
        echo "$tool refuses a tree that keeps the rules:"
        cat "$work/log"
        failures=$((failures + 1))
    }
done

breaks check_layers 'src/base/a.h:2: base may not include data/b.h' src/base/a.h '#include "data/b.h"'
breaks check_layers 'base/none.h does not exist' src/data/b.c '#include "base/none.h"'
breaks check_layers 'an include is written' src/data/b.c '#include "a.h"'
breaks check_layers 'base may not include <zlib.h>' src/base/a.h '#include <zlib.h>'
breaks check_layers 'data may not include <curl/curl.h>' src/data/b.c '#  include <curl/curl.h>'
breaks check_layers 'data may not include hstu/hstu.h' src/data/b.c '#include "hstu/hstu.h"'
breaks check_source 'b.c:5: tab' src/data/b.c 'int\tb;'
breaks check_source 'b.c:5: trailing blank' src/data/b.c 'int b; '
breaks check_source 'carriage return' src/data/b.c 'int b;\r'
breaks check_source 'b.c:5: banned call' src/data/b.c 'int b = atoi("1");'
breaks check_source 'b.c:6: banned call' src/data/b.c '/* free() in a\n * comment */ void f(void) { free(0); }'
breaks check_source 'dead code' src/data/b.c '#if\00400\n#endif'
breaks check_source 'no newline' src/data/b.c 'int b;\c'
breaks check_source 'status.h: does not compile alone' include/hstu/status.h 'unknown_type b;'
breaks check_source 'main.c: this file name is used more than once' src/data/main.c ''
[ "$failures" -eq 0 ] || exit 1
echo "check_the_checks: every broken rule was found"
