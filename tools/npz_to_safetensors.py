#!/usr/bin/env python3
"""Converts .npz archives of reference outputs to safetensors files, which the tests read with the library's own reader.

Needs numpy and safetensors from the package index. Usage: npz_to_safetensors.py OUT_FOLDER FILE.npz..."""
import pathlib
import sys

import numpy
import safetensors.numpy


def main():
    out = pathlib.Path(sys.argv[1])
    for name in map(pathlib.Path, sys.argv[2:]):
        with numpy.load(name) as archive:
            arrays = {key: numpy.ascontiguousarray(archive[key]) for key in archive.files}
        safetensors.numpy.save_file(arrays, out / name.with_suffix(".safetensors").name)


main()
