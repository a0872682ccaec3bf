"""Where the container cannot serve: what is wrong, and what the one line that it ends with must have.

A volume that is empty, half copied or somebody else's, a file system without tmpfs, a broken configuration, a port in use.
The line has to name the thing and say what to do, so the patterns have both, joined by ` … `.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox import can_be_others
from stage import MODEL, Stage



def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def hidden(path: Path) -> None:
    """Somebody else's, who lets nobody in."""
    path.chmod((0o700 if path.is_dir() else 0o600) if can_be_others() else 0)


def refuses(stage: Stage, pattern: str, environment: dict[str, str] | None = None, **more: object) -> str:
    """Ends not with 0, and with one line that has all of the pattern."""
    status, lines = stage.container(environment, **more).refusal()
    assert status not in (0, None) and status > 0, f"ended with {status}: {lines}"
    assert len(lines) == 1, f"{len(lines)} lines instead of one: {lines}"
    (line,) = lines
    for part in pattern.split(" … "):
        assert re.search(part, line), f"the line lacks /{part}/: {line}"
    return line


# name of the check: how the volume is spoilt, and what the line must have.
VOLUMES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an_empty_volume": (lambda volume: shutil.rmtree(volume / "sketchbook") or (volume / "sketchbook").mkdir(),
                        "/models/sketchbook … manifest.json … pixart convert"),
    "a_volume_without_the_model": (lambda volume: shutil.rmtree(volume / "sketchbook"),
                                   "/models/sketchbook … pixart convert"),
    "a_model_whose_weights_are_cut_off": (lambda volume: halved(volume / "sketchbook/transformer.bin"),
                                          "transformer.bin … manifest … (convert|copy) it again"),
    "a_model_whose_weights_have_another_byte": (
        lambda volume: (volume / "sketchbook/transformer.bin").write_bytes(
            (volume / "sketchbook/transformer.bin").read_bytes()[:-1] + b"\x55"),
        "transformer.bin … manifest … (convert|copy) it again"),
    "a_model_that_lacks_a_file": (lambda volume: (volume / "sketchbook/transformer.bin").unlink(),
                                  "transformer.bin … (convert|copy) it again"),
    "a_model_that_lacks_its_manifest": (lambda volume: (volume / "sketchbook/manifest.json").unlink(),
                                        "manifest.json … pixart convert"),
    "a_model_whose_manifest_is_cut_off": (lambda volume: halved(volume / "sketchbook/manifest.json"),
                                          "manifest.json … (convert|copy) it again"),
    "a_volume_of_another_owner": (hidden, "/models … [Pp]ermission … (chmod|chown|readable)"),
    "a_model_of_another_owner": (lambda volume: hidden(volume / "sketchbook"),
                                 "/models/sketchbook … [Pp]ermission … (chmod|chown|readable)"),
    "weights_of_another_owner": (lambda volume: hidden(volume / "sketchbook/transformer.bin"),
                                 "transformer.bin … [Pp]ermission … (chmod|chown|readable)"),
}  # fmt: skip

# name of the check: what is set or mounted otherwise, and what the line must have.
SETTINGS: dict[str, tuple[dict[str, str], dict[str, object], str]] = {
    "a_read_only_file_system_without_tmpfs": ({}, {"tmpfs": 0}, "/tmp … (tmpfs|TMPDIR)"),
    "a_tmpfs_that_is_too_small_for_the_source": ({}, {"tmpfs": 8 << 20}, "No space … (tmpfs|TMPDIR|free some space)"),
    "a_tmpfs_that_is_too_small_for_the_cache": ({}, {"tmpfs": 20 << 20}, "PIXART__MODEL__CACHE … MB are needed"),
    "a_key_that_is_none": ({"PIXART__QUEUE__CAPACTY": "4"}, {}, "PIXART__QUEUE__CAPACTY … capacity"),
    "a_value_that_is_none": ({"PIXART__QUEUE__CAPACITY": "many"}, {}, "PIXART__QUEUE__CAPACITY … many"),
    "a_settings_file_that_is_not_there": ({"PIXART_CONFIG": "/etc/pixart/other.toml"}, {},
                                          "/etc/pixart/other.toml … PIXART_CONFIG"),
}  # fmt: skip

# name of the check: the settings file, whether it may be read, and what the line must have.
FILES: dict[str, tuple[str, bool, str]] = {
    "a_settings_file_that_is_no_toml": ("[queue\ncapacity = 4\n", True, "/own.toml … line 1"),
    "a_settings_file_with_a_wrong_value": ('[queue]\ncapacity = "many"\n', True, "/own.toml … line 2 … queue.capacity"),
    "a_settings_file_of_another_owner": ("", False, "/own.toml … [Pp]ermission … (chmod|chown|readable)"),
}


def refusals() -> Iterator[tuple[str, Callable[[Stage], str]]]:
    """The tables above as checks."""

    def of_volume(spoil: Callable[[Path], object], pattern: str) -> Callable[[Stage], str]:
        def check(stage: Stage) -> str:
            with stage.copy_of_models() as volume:
                spoil(volume)
                return refuses(stage, pattern, {MODEL: "/models/sketchbook"}, models=volume)

        return check

    def of_file(text: str, may_be_read: bool, pattern: str) -> Callable[[Stage], str]:
        def check(stage: Stage) -> str:
            file = stage.folder / "own.toml"
            file.write_text(text)
            file.chmod(0o644)
            if not may_be_read:
                hidden(file)
            try:
                return refuses(stage, pattern, {"PIXART_CONFIG": "/own.toml"}, binds={"/own.toml": file})
            finally:
                file.unlink()

        return check

    def of_port(stage: Stage) -> str:
        with socket.create_server(("0.0.0.0", 8080)):
            return refuses(stage, "8080 … server.listen … in use")

    for name, (spoil, pattern) in VOLUMES.items():
        yield f"{name}_is_refused", of_volume(spoil, pattern)
    for name, (environment, more, pattern) in SETTINGS.items():
        yield f"{name}_is_refused", lambda stage, e=environment, m=more, p=pattern: refuses(stage, p, e, **m)
    for name, (text, may_be_read, pattern) in FILES.items():
        yield f"{name}_is_refused", of_file(text, may_be_read, pattern)
    yield "a_port_in_use_is_refused", of_port
