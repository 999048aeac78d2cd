"""PyTorch in, checked ONNX out."""

import stale_edge_runtime as _runtime  # noqa: F401 (first: it switches onnxruntime's telemetry off)
