"""Removes from an environment what the service never runs: `slim.py SITE_PACKAGES`. Needs binutils and gcc.

OpenCV's wheel brings FFmpeg and its own BLAS, 75 MB that the service never calls: other libraries decode pictures, and
no matrix is inverted. cv2 is linked to them and would not load without them, so each is replaced by a library with the
same names, which ends the process with a message if one of them is called after all.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Folders and files that only tests, builds against the package, or tools import.
UNUSED = (
    "*/tests",
    "numpy/*/tests",
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/lib",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/capi/libonnxruntime.so*",  # for C programs: Python's module contains all of it
    "sqlalchemy/testing",
)
STUBBED = re.compile(r"lib(av(codec|device|filter|format|util)|swscale|openblas)\w*-")
STUB = """
#include <stdio.h>
#include <stdlib.h>
static void missing(const char *name) {
    fprintf(stderr, "%s is not in this image: see deploy/container/slim.py\\n", name);
    abort();
}
"""


def main(packages: Path) -> None:
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    stub(packages / "cv2" / "cv2.abi3.so", packages / "opencv_python_headless.libs")
    strip(packages)


def strip(packages: Path) -> None:
    """Drop symbols, except in wheels that bring libraries: they were changed in a way that strip breaks."""
    patched = tuple(path.name.removesuffix(".libs") for path in packages.glob("*.libs"))
    patched += "cv2", "PIL", "_pi_heif"
    for path in packages.rglob("*.so"):
        if not path.relative_to(packages).parts[0].startswith(patched):
            run("strip", "--strip-unneeded", path)


def stub(binary: Path, libraries: Path) -> None:
    """Replace the libraries that a binary is linked to but never calls; drop those that only they needed."""
    for name in needed(binary):
        if STUBBED.match(name):
            build_stub(libraries / name, undefined(binary) & defined(libraries / name))
    kept: set[str] = set()
    waiting = needed(binary)
    while waiting:
        name = waiting.pop()
        if name not in kept and (libraries / name).exists():
            kept.add(name)
            waiting += needed(libraries / name)
    for path in libraries.iterdir():
        if path.name not in kept:
            path.unlink()


def build_stub(library: Path, symbols: set[str]) -> None:
    """A library that takes another's place, with some of its symbols, each `name` or `name@VERSION`."""
    versions: dict[str, list[str]] = {}
    for symbol in sorted(symbols):
        name, _, version = symbol.partition("@")
        versions.setdefault(version, []).append(name)
    names = [name for group in versions.values() for name in group]
    code = STUB + "".join(f'void {name}(void) {{ missing("{name}"); }}\n' for name in names)
    script = "".join(f"{version} {{ global: {'; '.join(group)}; local: *; }};\n" for version, group in versions.items())
    with tempfile.TemporaryDirectory() as folder:
        source, exports = Path(folder, "stub.c"), Path(folder, "exports")
        source.write_text(code, encoding="ascii")
        exports.write_text(script, encoding="ascii")
        linked = (f"-Wl,-soname,{library.name}", f"-Wl,--version-script={exports}")
        run("gcc", "-shared", "-fPIC", "-Os", "-fno-builtin", *linked, "-o", library, source)


def needed(binary: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--dynamic", "--wide", binary))


def undefined(binary: Path) -> set[str]:
    return set(run("nm", "--dynamic", "--undefined-only", "--just-symbols", binary).split())


def defined(binary: Path) -> set[str]:
    listing = run("nm", "--dynamic", "--defined-only", "--just-symbols", binary)
    return {symbol.replace("@@", "@") for symbol in listing.split()}


def run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
