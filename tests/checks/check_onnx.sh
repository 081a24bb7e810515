#!/bin/sh
# ONNX's own library reads what hs_onnx_write writes, infers the same shapes and computes the same numbers. Needs a Python with
# the packages onnx and numpy (HSTU_ONNX_PYTHON, else python3); with onnxruntime, that computes them too. Exit status 77: skipped.
# usage: check_onnx.sh WRITE_ONNX FOLDER
set -eu
writer=$1
folder=$2
here=$(dirname "$0")
python=${HSTU_ONNX_PYTHON:-python3}
if ! "$python" -c 'import onnx, numpy' 2>/dev/null; then
    echo "check_onnx: SKIPPED: '$python' cannot import onnx and numpy; HSTU_ONNX_PYTHON may name a Python that can"
    exit 77
fi
for type in f32 f16; do
    "$writer" "$folder/every_op_$type.onnx" $type
    "$python" "$here/check_onnx.py" "$folder/every_op_$type.onnx" $type
done
