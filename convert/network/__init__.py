"""From a checkpoint to the deploy graph: ONNX that ends at the head convolutions."""

from convert.network.deploy import deploy_graph, facts_for

__all__ = ["deploy_graph", "facts_for"]
