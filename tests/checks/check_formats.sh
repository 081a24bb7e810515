#!/bin/sh
# Every configuration key that the code knows stands in docs/formats.md between backquotes.
# usage: check_formats.sh TREE
set -eu
cd "$1"
keys=$(sed -n 's/^ *\(INT\|REAL\|FLAG\|CHOICE\)(\([a-zA-Z_0-9]*\)[,)].*/\2/p
    s/^ *{"\([a-zA-Z_0-9]*\)".*/\1/p' src/model/config_keys.c
    sed -n '/hs_ignored_keys\[\] = {/,/};/p' src/model/config_keys.c | grep -o '"[a-zA-Z_0-9]*"' | tr -d '"'
    sed -n 's/^ *{"[a-z_]*", "\([a-zA-Z_0-9]*\)", HS_KEY.*/\1/p' src/model/config_keys.c)
[ "$(echo "$keys" | wc -l)" -gt 50 ] || {
    echo "check_formats: found too few keys in src/model/config_keys.c: has its form changed?"
    exit 1
}
failures=0
for key in $keys candidate_ids max_output_length; do
    grep -qF "\`$key\`" docs/formats.md || {
        echo "check_formats: docs/formats.md does not say what the configuration key $key means"
        failures=1
    }
done
exit $failures
