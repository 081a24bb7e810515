#!/bin/sh
# Every configuration key that the code knows stands in docs/formats.md between backquotes.
# usage: check_formats.sh TREE
set -eu
cd "$1"
# Rows of the tables begin with a macro or a brace; INT and FLAG name the key after the field, all others quote it.
keys=$(sed -n 's/^ *\(INT\|FLAG\)([A-Z]*, \([a-z_0-9]*\)[,)].*/\2/p
    s/^ *\(INT_AS\|ROW\|REAL\|CHOICE\|SHAPE\)(\([A-Z]*, \)\{0,1\}"\([a-zA-Z_0-9]*\)".*/\3/p
    s/^ *{HS_KEY_[A-Z]*, "\([a-zA-Z_0-9]*\)".*/\1/p' src/model/config_keys.c
    sed -n 's/^ *\(INT_AS\|ROW\)([A-Z]*, "[a-zA-Z_0-9]*", "\([a-zA-Z_0-9]*\)".*/\2/p' src/model/config_keys.c
    sed -n '/hs_other_keys\[\] = {/,/};/p' src/model/config_keys.c | grep -o '"[a-zA-Z_0-9]*"' | tr -d '"')
[ "$(echo "$keys" | wc -l)" -gt 130 ] || {
    echo "check_formats: found too few keys in src/model/config_keys.c: has its form changed?"
    exit 1
}
failures=0
for key in $keys; do
    grep -qF "\`$key\`" docs/formats.md || {
        echo "check_formats: docs/formats.md does not say what the configuration key $key means"
        failures=1
    }
done
exit $failures
