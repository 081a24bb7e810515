#!/bin/sh
# Installs into a temporary prefix, builds examples/recommend.c with what pkg-config says, against the shared and the static
# library, and compares what they answer with the demo's per-user file.
# usage: install_example.sh TREE BUILD_FOLDER C_COMPILER
set -eu
tree=$1
build=$2
cc=$3
user=7

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build" --prefix "$prefix" >/dev/null
for file in bin/hstu include/hstu/hstu.h; do
    [ -e "$prefix/$file" ] || {
        echo "install_example: $file was not installed" >&2
        exit 1
    }
done
folder=$(dirname "$(find "$prefix" -name hstu.pc)")
libraries=$(dirname "$folder")
config() {
    PKG_CONFIG_PATH=$folder pkg-config "$@" hstu
}
warnings="-std=c11 -Wall -Wextra -Wconversion -Wpedantic -Werror"
# shellcheck disable=SC2046,SC2086 # one word a flag
$cc $warnings "$tree/examples/recommend.c" $(config --cflags --libs) -o "$prefix/shared"
# shellcheck disable=SC2046,SC2086
$cc $warnings "$tree/examples/recommend.c" $(config --static --cflags --libs | sed 's/-lhstu/-l:libhstu.a/') \
    -o "$prefix/static"
readelf -d "$prefix/shared" | grep -q 'libhstu\.so' || {
    echo "install_example: the example is not linked with libhstu.so" >&2
    exit 1
}

model=$tree/examples/data/kuairand-pure-hstu/checkpoint.pt
sequences=$build/demo/KuaiRand-Pure/sequences.safetensors
LD_LIBRARY_PATH=$libraries "$prefix/shared" "$model" "$sequences" $user | tee "$prefix/answer"
"$prefix/static" "$model" "$sequences" $user | cmp - "$prefix/answer"
got=$(awk '{print $3}' "$prefix/answer" | tr '\n' ' ' | sed 's/ *$//')
# The last column of the per-user file: top-k ids, best first, separated by blanks.
expected=$(awk -F , -v user=$user 'NR > 1 && $1 == user {print $NF}' "$build/demo/users.csv" | tr -d '"')
if [ "$(echo "$got" | wc -w)" -ne 10 ] || [ "$got" != "$expected" ]; then
    echo "install_example: expected the demo's ten ids '$expected', found '$got'" >&2
    exit 1
fi
if LD_LIBRARY_PATH=$libraries "$prefix/shared" "$model" "$prefix/absent" $user 2>"$prefix/log" ||
    ! grep -q absent "$prefix/log"; then
    echo "install_example: a missing file must be an error that names it; found: $(cat "$prefix/log")" >&2
    exit 1
fi
