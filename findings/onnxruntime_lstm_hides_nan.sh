#!/usr/bin/env bash
# onnxruntime 1.32.0: an LSTM or GRU gives a number where its input is not one.
#
# A NaN goes through every arithmetic operator, so a check of the outputs is taken for a check of the
# inputs: a good guess is that a window with one NaN gives NaN. Seen on the CPU: a linear layer does,
# and so do RNN, LSTM and GRU without a bias; LSTM and GRU with a bias, the usual form, give finite
# numbers at every step. A parity test of finite inputs does not show it.
# Output seen: "LSTM without bias: nan", "LSTM with bias: finite", and the same for GRU.
# What to do: look at the inputs, not at the answer, before a network that trades is asked.
# Needs PyPI. Exit 0: as seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

STEPS, FEATURES, HIDDEN = 8, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
rng = np.random.default_rng(1)


def weights(name, *shape):
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def session(kind, biased):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 1, FEATURES])
    shape = [STEPS, 1, HIDDEN] if kind == "MatMul" else [STEPS, 1, 1, HIDDEN]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    if kind == "MatMul":
        nodes, given = [helper.make_node("MatMul", ["x", "w"], ["y"])], [weights("w", FEATURES, HIDDEN)]
    else:
        rows = GATES[kind] * HIDDEN
        nodes = [helper.make_node(kind, ["x", "w", "r", "b"][: 4 if biased else 3], ["y"], hidden_size=HIDDEN)]
        given = [weights("w", 1, rows, FEATURES), weights("r", 1, rows, HIDDEN)]
        given += [weights("b", 1, 2 * rows)] if biased else []
    graph = helper.make_graph(nodes, kind, [x], [y], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


window = rng.normal(size=(STEPS, 1, FEATURES)).astype(np.float32)
window[STEPS // 2, 0, 1] = np.nan
found = []
for kind, biased in [("MatMul", False), *((kind, biased) for kind in GATES for biased in (False, True))]:
    (answer,) = session(kind, biased).run(None, {"x": window})
    name = kind if kind == "MatMul" else f"{kind} {'with' if biased else 'without'} bias"
    found.append(f"{name}: {'finite' if np.isfinite(answer).all() else 'nan'}")
print("\n".join(found))
assert found == [
    "MatMul: nan",
    "LSTM without bias: nan",
    "LSTM with bias: finite",
    "GRU without bias: nan",
    "GRU with bias: finite",
    "RNN without bias: nan",
    "RNN with bias: nan",
], found
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
