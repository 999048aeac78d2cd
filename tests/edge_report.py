"""What the edge install costs: megabytes on disk, and time from a fresh process to its first detection.

`make edge-report` runs it. It installs the built wheel with its base dependencies into an empty environment, exports a
full-size file with the environment that runs this program, and measures there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTS = 9
SNIPPETS = 200
FIRST_DETECTION = """
import sys
import numpy as np
from stale_edge_runtime import Detector
found = Detector(sys.argv[1]).detect(np.load(sys.argv[2]))
print(found[0], flush=True)
"""
BY_PACKAGE = """
import json
from importlib.metadata import distributions
from pathlib import Path
sizes = {}
for found in distributions():
    files = {Path(found.locate_file(file)) for file in found.files or ()}
    sizes[found.name] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps(sizes))
"""


def run(*words: object, folder: Path = ROOT) -> str:
    return subprocess.run(
        [str(word) for word in words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def size_mb(folder: Path) -> float:
    """Space that the files take, links not followed, 10^6 bytes."""
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 1e6


def install(folder: Path) -> tuple[Path, float]:
    """An environment with the wheel and its base dependencies; its folder and what was added to an empty one."""
    environment = folder / "edge"
    venv.create(environment, with_pip=True)
    python, pip = environment / "bin/python", ("-m", "pip", "--disable-pip-version-check", "-q")
    before = size_mb(environment)
    run(python, *pip, "wheel", "--no-deps", "-w", folder / "wheel", ROOT)
    (wheel,) = (folder / "wheel").glob("*.whl")
    run(python, *pip, "install", "-c", ROOT / "constraints.txt", wheel)
    return environment, size_mb(environment) - before


def first_detection_ms(words: list[str]) -> float:
    """Median time from the start of a process to the first line that it prints."""
    times = []
    for _ in range(STARTS + 1):
        started = time.perf_counter()
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip()
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[1:])  # the first one warms the disk cache


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stale-edge-report-") as name:
        folder = Path(name)
        environment, added_mb = install(folder)
        print(f"edge install: {added_mb:.0f} MB on disk beyond an empty environment")
        sizes = json.loads(run(environment / "bin/python", "-I", "-c", BY_PACKAGE))
        sizes.pop("pip", None)
        sizes.pop("setuptools", None)
        for package, size in sorted(sizes.items(), key=lambda item: -item[1]):
            print(f"  {package:<20} {size / 1e6:6.1f} MB")
        full = Path(sys.executable).with_name("stale-edge")
        run(full, "export", "--quiet", folder=folder)
        run(full, "quantize", "--int8", "--quiet", folder=folder)
        python, features = environment / "bin/python", folder / "features.npy"
        code = "import numpy, sys; from stale_edge_runtime.synthetic import clip_like_features as f; "
        run(python, "-c", code + f"numpy.save(sys.argv[1], f(1, {SNIPPETS})[0])", features)
        for model in ("stale.onnx", "stale.int8.onnx"):
            path = folder / "models" / model
            library = [str(python), "-c", FIRST_DETECTION, str(path), str(features)]
            command = [
                str(environment / "bin/stale-edge"),
                "detect",
                str(path),
                str(features),
                "-o",
                "-",
                "--format",
                "csv",
            ]
            print(
                f"fresh process to first detection, {model}, {SNIPPETS} snippets: {first_detection_ms(library):.0f} ms "
                f"from Python, {first_detection_ms(command):.0f} ms by stale-edge detect (median of {STARTS})"
            )


if __name__ == "__main__":
    main()
