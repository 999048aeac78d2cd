"""Other engines to measure beside onnxruntime."""

import sys

# When it is imported, OpenVINO's telemetry writes into the home folder and to the network; OpenVINO works without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
