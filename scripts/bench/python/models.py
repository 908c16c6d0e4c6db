"""The nodes of the section threads: one network, in ONNX Runtime and in NumPy.

Both compute with one thread for each call, so that calls in several threads and in several
processes use the same processors.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np
from gophersnake import node

LAYERS, WIDTH = 12, 1024
"""The shape of the network: its weights take 48 MiB."""


def _weights() -> list[np.ndarray]:
    """Return the weights of each layer."""
    random = np.random.default_rng(0)
    return [random.normal(0, 0.04, (WIDTH, WIDTH)).astype("float32") for _ in range(LAYERS)]


def _model() -> bytes:
    """Return the network as an ONNX model."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    layers, weights = [], []
    for i, each in enumerate(_weights()):
        weights.append(numpy_helper.from_array(each, f"w{i}"))
        layers.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"y{i}"]))
        layers.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", WIDTH])
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = helper.make_graph(layers, "network", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@node
class Onnx:
    """The network in ONNX Runtime."""

    def setup(self) -> None:
        """Load the model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(_model(), options)

    def process(self, rows: np.ndarray) -> float:
        """Return the mean of the output."""
        return float(self.session.run(None, {"x0": rows})[0].mean())


@node
class Numpy:
    """The network in NumPy."""

    def setup(self) -> None:
        """Make the weights."""
        self.weights = _weights()

    def process(self, rows: np.ndarray) -> float:
        """Return the mean of the output."""
        for each in self.weights:
            rows = np.maximum(rows @ each, 0)
        return float(rows.mean())
