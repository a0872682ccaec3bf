"""What an image would be built from: the files that .dockerignore lets through and the build stage copies.

No engine is here to find that out by building. Cargo wrote down what the binary is made of; this holds the two together. It
reads as much of the two formats as this project uses, and says so of the rest.
"""

from __future__ import annotations

import re
from pathlib import Path


def left_out(dependencies: Path, root: Path) -> tuple[list[str], int]:
    """Files of cargo's `.d` file that the build would not find, and how many it lists."""
    made_of = dependencies.read_text().partition(": ")[2].replace("\\ ", "\0").split()
    (main,) = (path for path in made_of if path.endswith("/src/main.rs"))
    # The binary may have been built in another checkout of the same sources.
    built_in = main.removesuffix("src/main.rs")
    files = sorted(path.replace("\0", " ").removeprefix(built_in) for path in made_of)
    ignored, copied = rules(root / ".dockerignore"), sources(root / "Dockerfile")
    arrives = [name for name in files if is_let_through(name, ignored) and any(within(name, source) for source in copied)]
    return sorted(set(files) - set(arrives)), len(files)


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
