#!/bin/sh
# The files of `hstu convert --to onnx` in onnx's checker and in ONNX Runtime (check_exported.py). Needs a Python with the packages onnx,
# onnxruntime and numpy (HSTU_ONNX_PYTHON, else python3). Exit status 77: skipped.
# usage: check_exported.sh PROGRAM TREE
set -eu
program=$1
tree=$2
python=${HSTU_ONNX_PYTHON:-python3}
if ! "$python" -c 'import onnx, onnxruntime, numpy' 2>/dev/null; then
    echo "check_exported: SKIPPED: '$python' cannot import onnx, onnxruntime and numpy; HSTU_ONNX_PYTHON may name a Python that can"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$tree/tests/checks/check_exported.py" "$program" "$tree/tests/data/golden" "$work"
