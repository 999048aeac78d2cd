"""Run the runtime's tests on emulated processors, Cortex-A72, Cortex-A76 and Haswell: slow, for correctness only.

python tests/emulated.py [CPU...] [-- PYTEST ARGUMENTS]

Needs qemu-user 10 or later (`$QEMU` may name the folder of its programs; Debian 12 has it in its backports), and for
the Arm processors apt-get and dpkg, which fetch Debian's Python for arm64 into `build/emulated`. Nothing is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "emulated"
CPUS = {"cortex-a72": "aarch64", "cortex-a76": "aarch64", "Haswell-noTSX": "x86_64"}
"""Processors by the names that qemu has for them, with their architecture."""
OLDEST_QEMU = 10
"""qemu 7.2 dies at `import onnxruntime`."""
PLATFORMS = tuple(f"manylinux_2_{glibc}_aarch64" for glibc in (28, 27, 17))
PACKAGES = ("numpy", "onnxruntime", "rich", "typer", "hypothesis", "pytest")
TESTS = tuple(
    f"tests/runtime/test_{name}.py"
    for name in ("session", "detector", "model_file", "subnormal", "nms", "segments", "decoding")
)
"""Tests of arithmetic and of files; all others do the same on any processor."""
UNTOLD = "not ceiling and not gigabytes and not quarter"
"""Choice of tests that emulation tells something of: not limits of memory, which qemu ignores, nor processor time."""


class Absent(Exception):
    """A tool that this machine does not have."""


def qemu(architecture: str) -> Path:
    """Find the emulator of an architecture.

    Raises:
        Absent: There is none, or an older one.
    """
    folders = os.environ.get("QEMU", os.environ["PATH"])
    for name in (f"qemu-{architecture}", f"qemu-{architecture}-static"):
        if found := shutil.which(name, path=folders):
            told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
            version = re.search(r"version (\d+)\.\S+", told)
            if version is None or int(version[1]) < OLDEST_QEMU:
                raise Absent(f"{found} is {told.splitlines()[0]}, qemu-user {OLDEST_QEMU} or later is needed")
            return Path(found)
    raise Absent(f"qemu-{architecture} is missing (Debian: qemu-user, for 12 from its backports)")


def arm_python() -> tuple[Path, Path, Path]:
    """Fetch Python and packages for arm64, once.

    Returns:
        Root of the system, its interpreter, folder of packages.

    Raises:
        Absent: apt-get or dpkg is missing.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Absent(f"{tool} is missing, which fetches Debian's Python for arm64")
    root, packages, state = BUILD / "arm64", BUILD / "arm64-packages", BUILD / "apt"
    if not (root / "ready").exists():
        for folder in ("lists/partial", "archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        places = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "root",
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache::archives": state / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        apt = ["apt-get", "-qq", *(word for name, value in places.items() for word in ("-o", f"{name}={value}"))]
        run(*apt, "update")
        run(*apt, "install", "--download-only", "--no-install-recommends", "--yes", "python3", "libstdc++6")
        for archive in sorted((state / "archives").glob("*.deb")):
            run("dpkg", "-x", archive, root)
        (root / "ready").touch()
    (python,) = (path for path in (root / "usr/bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name))
    if not packages.exists():
        version = python.name.removeprefix("python")
        chosen = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
        chosen += [word for platform in PLATFORMS for word in ("--platform", platform)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--target", packages]
        run(*pip, *chosen, *PACKAGES)
    return root, python, packages


def wrapper(cpu: str) -> Path:
    """Write a program that is Python on an emulated processor, so that tests may start it as they start Python.

    Returns:
        The program.
    """
    emulator = qemu(CPUS[cpu])
    program = BUILD / f"python-{cpu}"
    words, home = [emulator, "-cpu", cpu, "-0", program], ""
    if CPUS[cpu] == "aarch64":
        root, python, packages = arm_python()
        words += ["-L", root]
        home = f"export PYTHONHOME={shlex.quote(str(root / 'usr'))}\n"
    else:
        python, packages = Path(sys.executable).resolve(), Path(sysconfig.get_path("purelib"))
    program.parent.mkdir(parents=True, exist_ok=True)
    paths = shlex.quote(os.pathsep.join(map(str, (ROOT, ROOT / "runtime", packages))))
    # Tests start Python with variables of their own; these must be there all the same.
    start = f'{home}export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={paths}"${{PYTHONPATH:+:$PYTHONPATH}}"\n'
    program.write_text(f'#!/bin/sh\n{start}exec {shlex.join(map(str, [*words, python]))} "$@"\n')
    program.chmod(0o755)
    return program


def run(*words: object) -> None:
    """Run a program that must succeed."""
    subprocess.run([str(word) for word in words], check=True)


def main(arguments: list[str]) -> int:
    """Run the tests on each processor; the exit code is that of the last that failed.

    Args:
        arguments: Names of processors, and arguments of pytest after `--`.
    """
    place = arguments.index("--") if "--" in arguments else len(arguments)
    cpus, words, code = arguments[:place] or list(CPUS), arguments[place + 1 :] or [*TESTS, "-k", UNTOLD], 0
    for cpu in cpus:
        if cpu not in CPUS:
            print(f"{cpu}: is not known; choose from {', '.join(CPUS)}")
            return 2
        try:
            program = wrapper(cpu)
        except Absent as problem:
            print(f"{cpu}: skipped, as {problem}")
            continue
        print(f"{cpu}: {' '.join(words)}", flush=True)
        options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=")
        done = subprocess.run([program, *options, *words], cwd=ROOT, check=False)
        print(f"{cpu}: {'passed' if done.returncode == 0 else f'exit code {done.returncode}'}", flush=True)
        code = done.returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
