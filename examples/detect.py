"""Find actions in the features of one video, on a Raspberry Pi, a Jetson or any other machine with Python.

pip install stale-edge, then: python detect.py model.int8.onnx video.npy [cuda]
"""

import sys
from pathlib import Path

from stale_edge_runtime import Detector
from stale_edge_runtime.formats.features import read_features

THREADS = 2


def main(model: str, features: str, provider: str = "cpu") -> None:
    """Print start, end, label and score of every detection, best first.

    Args:
        model: Detector with its classes inside.
        features: An `.npy` file, `[snippets, width]`.
        provider: `cpu`, or `cuda` where onnxruntime has it.
    """
    detector = Detector(model, threads=THREADS, provider=provider)
    rows = read_features(Path(features), detector.info.feature_dim)
    unit = "s" if detector.info.snippet_seconds else "snippets"
    for found in detector.detect(rows):
        print(f"{found.start_s:8.2f} to {found.end_s:8.2f} {unit}  {found.score:.4f}  {found.label}")


if __name__ == "__main__":
    main(*sys.argv[1:])
