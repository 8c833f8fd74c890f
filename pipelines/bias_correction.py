"""Takes the average error of int8 back out of the logits.

Rounding to int8 does not only add noise: kernels whose weights nearly cancel leave a remainder, which
shifts whole channels and in the end the logits, some classes up and others down. The mean of that
shift over calibration images is known, and the last layer's bias can take it back.

Paper: Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2 (empirical bias correction).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipelines.exported import predict_file
from pipelines.files import replacing
from pipelines.metadata import pack


def correct(path: Path, images: np.ndarray, logits: np.ndarray) -> None:
    """Shift the last biases of an int8 .tflite file so that its mean logits on `images` are those of Keras.

    `images` are (N, H, W, 3) calibration images, `logits` (N, classes) the Keras model's for them. A
    file that does not end in a dense layer with a bias is left as it is.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    bias = _last_bias(model)
    if bias is None:
        return
    error = (predict_file(path, images) - logits).mean(axis=0)
    values = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32)
    shifted = values - np.rint(error / np.asarray(bias.quantization.scale)).astype(np.int32)
    model.buffers[bias.buffer].data = np.frombuffer(shifted.astype(np.int32).tobytes(), np.uint8)
    with replacing(path) as temporary:
        temporary.write_bytes(pack(model))


def _last_bias(model: schema.ModelT) -> schema.TensorT | None:
    """The int32 bias of the fully connected operator that gives the model's output, if that is how it ends."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        dense = max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.FULLY_CONNECTED
        if dense and operator.outputs[0] == graph.outputs[0] and len(operator.inputs) == 3 and operator.inputs[2] >= 0:
            bias = graph.tensors[operator.inputs[2]]
            return bias if bias.type == schema.TensorType.INT32 else None
    return None
