"""PyTorch in, checked ONNX out."""
