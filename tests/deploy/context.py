"""What an image would be built from: the files that .dockerignore lets through and the build stage copies.

No engine is here to find that out by building. Cargo wrote down what the binary is made of; this holds the two together. It
reads as much of the two formats as this project uses, and says so of the rest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def left_out(binary: Path, root: Path) -> tuple[list[str], int]:
    """Files that the binary is made of and the build would not find, and how many it is made of."""
    files = made_of(binary)
    ignored, copied = rules(root / ".dockerignore"), sources(root / "Dockerfile")
    arrives = {name for name in files if is_let_through(name, ignored) and any(within(name, source) for source in copied)}
    return sorted(files - arrives), len(files)


def made_of(binary: Path) -> set[str]:
    """What the compiler wrote down for the library beside the binary, relative to the project, and the binary's own file."""
    notes = sorted((binary.parent / "deps").glob("pixart-*.d"), key=lambda note: note.stat().st_mtime, reverse=True)
    for line in (line for note in notes for line in note.read_text().splitlines()):
        # Other notes are of tests and of mere checks.
        if ".rlib: " in line:
            names = line.partition(": ")[2].replace("\\ ", "\0").split()
            (library,) = (name for name in names if name.endswith("src/lib.rs"))
            # The project may have been built from another folder.
            built_in = library.removesuffix("src/lib.rs")
            return {os.path.normpath(name.replace("\0", " ").removeprefix(built_in)) for name in names} | {"src/main.rs"}
    raise AssertionError(f"cargo left no notes of the library in {binary.parent}/deps: give --pixart a binary where cargo built it")


def rules(dockerignore: Path) -> list[tuple[bool, str]]:
    """Its lines as (lets through, path), the later one having the last word."""
    lines = [line.strip() for line in dockerignore.read_text().splitlines()]
    parsed = [(line.startswith("!"), line.removeprefix("!")) for line in lines if line and not line.startswith("#")]
    for _, path in parsed:
        if path != "*" and re.search(r"[*?\[\\]", path):
            raise AssertionError(f".dockerignore: this check reads '*' and plain paths, not {path}")
    return parsed


def sources(dockerfile: Path) -> list[str]:
    """What the stage `build` copies out of the context."""
    stage = re.search(r"^FROM \S+ AS build$(.*?)^FROM ", dockerfile.read_text(), re.DOTALL | re.MULTILINE)
    assert stage, "the Dockerfile has no stage 'build'"
    return [source for line in re.findall(r"^COPY (?!--)(.+)$", stage[1], re.MULTILINE) for source in line.split()[:-1]]


def is_let_through(name: str, parsed: list[tuple[bool, str]]) -> bool:
    verdict = True
    for lets_through, path in parsed:
        if path == "*" or within(name, path):
            verdict = lets_through
    return verdict


def within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")
