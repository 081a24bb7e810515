#!/bin/sh
# What `hstu preprocess` writes is, byte for byte, what the references' own steps in pandas give (tools/reference_preprocess.py):
# synthetic logs of each KuaiRand set, MovieLens-like ratings, and the real KuaiRand-Pure where HSTU_SHARED has it. Needs a Python
# with pandas (HSTU_PANDAS_PYTHON, else python3). Exit status 77: skipped.
# usage: check_preprocess.sh HSTU TREE FOLDER
set -eu
hstu=$1
reference=$2/tools/reference_preprocess.py
work=$3/check_preprocess.$$
python=${HSTU_PANDAS_PYTHON:-python3}
if ! "$python" -c 'import pandas' 2>/dev/null; then
    echo "check_preprocess: SKIPPED: '$python' cannot import pandas; HSTU_PANDAS_PYTHON may name a Python that can"
    exit 77
fi
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT

run_hstu() {
    "$hstu" preprocess --data_root "$work" --no_download --quiet --allow_missing_logs "$@" >/dev/null 2>"$work/messages" || {
        cat "$work/messages"
        exit 1
    }
}

# compare NAME FILES [OPTIONS OF BOTH]: of DATA_ROOT $work; FILES is how many the reference writes.
compare() {
    name=$1 files=$2
    shift 2
    rm -rf "$work/reference"
    run_hstu --dataset_name "$name" "$@"
    "$python" "$reference" --dataset_name "$name" --data_root "$work" --out "$work/reference" \
        --sequences "$work/$name/sequences.safetensors" "$@"
    [ "$(ls "$work/reference" | wc -l)" -eq "$files" ] || {
        echo "check_preprocess: $name: the reference did not write $files files"
        exit 1
    }
    cp "$work/$name/sequences.safetensors" "$work/reference"
    for limit in 2GiB 16MiB; do
        run_hstu --dataset_name "$name" --memory_limit $limit --threads 3 "$@"
        for file in "$work/reference"/*; do
            cmp "$file" "$work/$name/${file##*/}"
        done
    done
    echo "check_preprocess: $name $*: $files files and the tensors are equal"
}

synth() {
    "$hstu" synth --data_root "$work" --quiet --like "$@" >/dev/null
}

synth KuaiRand-Pure --users 900 --items 700 --events 50000
compare KuaiRand-Pure 3
compare KuaiRand-Pure 3 --max_sequences 100000 --time_interval_s 36000 --max_sequence_length 3
synth KuaiRand-1K --users 100 --events 300000
compare KuaiRand-1K 3
compare KuaiRand-1K 3 --max_sequences 100000 --time_interval_s 30 --max_sequence_length 10
synth KuaiRand-27K --users 60 --events 60000 --seed 7
compare KuaiRand-27K 3 --max_sequences 7
"$python" "$reference" --write_movielens "$work"
compare ml-1m 2
compare ml-20m 2

real=${HSTU_SHARED:-}/data/kuairand-pure
if [ ! -d "$real" ]; then
    echo "check_preprocess: the part with the real KuaiRand-Pure is SKIPPED: HSTU_SHARED names no folder with data/kuairand-pure"
    exit 0
fi
data=$work/KuaiRand-Pure/data
rm -rf "$work/KuaiRand-Pure"
mkdir -p "$data"
cp "$real"/log_standard_*_pure.csv "$real/user_features_pure.csv" "$data"
compare KuaiRand-Pure 3
compare KuaiRand-Pure 3 --max_sequences 1000000
# The same rows as two logs, so that some users are in one of them alone.
log=$(ls "$data"/log_standard_*)
awk -F, 'NR == 1 || $3 < 20220502' "$log" >"$data/log_standard_4_08_to_4_21_pure.csv"
awk -F, 'NR == 1 || $3 >= 20220502' "$log" >"$data/log_standard_4_22_to_5_08_pure.csv"
rm "$log"
compare KuaiRand-Pure 3 --max_sequences 1000000
