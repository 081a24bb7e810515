"""An ONNX file with every operator (tests/graph/every_op.h): the format, the shapes, and numbers beside numpy's.

usage: check_onnx.py FILE f32|f16
"""
import math
import sys

import numpy as np
import onnx
from onnx import TensorProto, shape_inference
from onnx.reference import ReferenceEvaluator

ROWS = np.array([[4, 0, 2], [1, 1, 5]])
WEIGHT = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 0.0]], np.float32)


def expected(given):
    """Each output by its name, from the inputs alone, in float64."""
    a, b, rows = (given[name].astype(np.float64) for name in ("a", "b", "rows"))
    e = np.exp(a - a.max(-1, keepdims=True))
    places = np.argsort(-rows, axis=0, kind="stable")[:3]
    return {
        "add": a + b, "sub": a - b, "mul": a * 0.1, "div": b / a, "max": np.maximum(a, b), "min": np.minimum(a, b),
        "less_equal": a <= b, "sqrt": np.sqrt(np.abs(a)), "sigmoid": 1 / (1 + np.exp(-a)), "relu": np.maximum(a, 0),
        "erf": np.vectorize(math.erf)(a), "softmax": e / e.sum(-1, keepdims=True), "mean": a.mean(-1, keepdims=True),
        "reduce_max": a.max(-1, keepdims=True), "matmul": a @ WEIGHT, "cast": (ROWS <= given["limit"]).astype(np.uint8),
        "reshape": a.reshape(1, 6, 2, 2), "transpose": a.transpose(2, 0, 1), "slice": a[:, 1:2],
        "concat": np.concatenate([a, a[:, 1:2], a], 1), "gather": rows[ROWS], "gather_int32": rows[given["index"]],
        "top_values": np.take_along_axis(rows, places, 0), "top_places": places, "limit_again": given["limit"],
        "weight": WEIGHT,
    }


def inputs(real):
    random = np.random.default_rng(1)
    rows = random.standard_normal((6, 2)).astype(real)
    rows[4] = rows[1]  # ties, of which the smaller place comes first
    rows[5] = rows[2]
    return {
        "a": random.standard_normal((2, 3, 4)).astype(real), "b": random.standard_normal((3, 1)).astype(real),
        "rows": rows, "index": np.array([5, 0], np.int32), "limit": np.array([1, 0, 9], np.int64),
    }


def shapes(values):
    return {v.name: (v.type.tensor_type.elem_type, tuple(d.dim_value for d in v.type.tensor_type.shape.dim))
            for v in values}


def check_shapes(model):
    """What onnx infers from the inputs' shapes alone is what the file says."""
    said = shapes(list(model.graph.value_info) + list(model.graph.output))
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.graph.ClearField("value_info")
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    bare = shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    inferred = shapes(list(bare.graph.value_info) + list(bare.graph.output))
    names = [name for node in model.graph.node for name in node.output]
    assert sorted(said) == sorted(names), "the file does not give every value's shape, or one twice"
    for name in names:
        assert said[name] == inferred[name], f"{name}: the file says {said[name]}, onnx infers {inferred[name]}"
    return len(names)


def check_numbers(who, names, found, wanted, bound):
    assert sorted(names) == sorted(wanted), "the file has other outputs than this check"
    for name, value in zip(names, found):
        want = wanted[name]
        assert value.shape == want.shape, f"{who}: {name} has shape {value.shape}, not {want.shape}"
        if value.dtype.kind == "f":
            error = np.abs(value - want) / np.maximum(1, np.abs(want))
            assert error.max() <= bound, f"{who}: {name} is off by {error.max()}, {bound} is allowed"
        else:
            assert np.array_equal(value, want), f"{who}: {name} is {value}, not {want}"


def main(path, kind):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8 and [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.producer_name == "hstu" and model.metadata_props[0].key == "about"
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert all(t.HasField("raw_data") and t.data_type != TensorProto.UNDEFINED for t in model.graph.initializer)
    n_values = check_shapes(model)
    given = inputs(np.float16 if kind == "f16" else np.float32)
    wanted = expected(given)
    bound = 2e-3 if kind == "f16" else 1e-6
    names = [output.name for output in model.graph.output]
    check_numbers("onnx.reference", names, ReferenceEvaluator(model).run(None, given), wanted, bound)
    who = "onnx.reference"
    try:
        import onnxruntime
    except ImportError:
        print("check_onnx: no onnxruntime, so only onnx.reference computed the numbers")
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        check_numbers("onnxruntime", names, session.run(names, given), wanted, bound)
        who += f", onnxruntime {onnxruntime.__version__}"
    print(f"check_onnx: {kind}: {len(model.graph.node)} nodes, shapes of {n_values} values, {len(names)} outputs ({who})")


if __name__ == "__main__":
    main(*sys.argv[1:])
