"""Smaller number formats, with onnxruntime's own tools and a measured account of what they cost."""
