"""What tf.data's functions are made of."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

# Those that call functions, which are looked into, and those that tf.data itself knows to be harmless.
_HARMLESS = {"If", "While", "StatefulPartitionedCall", "TensorSliceDataset", "RangeDataset", "FlatMapDataset"}


def serial_operations(dataset: tf.data.Dataset) -> set[str]:
    """The operations with a state in the functions that are to run in parallel."""
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(tf.raw_ops.DatasetToGraphV2(input_dataset=dataset._variant_tensor).numpy())
    library = {function.signature.name: function for function in graph.library.function}
    todo = [n.attr["f"].func.name for n in graph.node if n.op in ("ParallelMapDatasetV2", "ParallelMapDataset")]
    assert todo
    seen, found = set(todo), set()
    while todo:
        for node in library[todo.pop()].node_def:
            described = op_def_registry.get(node.op)
            if described is not None and described.is_stateful and node.op not in _HARMLESS:
                found.add(node.op)
            called = [value.func.name for value in node.attr.values() if value.HasField("func")]
            called += [each.name for value in node.attr.values() for each in value.list.func]
            called += [node.op] if node.op in library else []
            todo += [name for name in called if name not in seen]
            seen.update(called)
    return found
