"""Other engines to measure beside onnxruntime."""
