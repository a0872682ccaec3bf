"""The run-time tree of the image, laid out by the script that the Dockerfile calls and run as a container would run it.

Each check is a sentence that holds of the tree, of the service in it, or (`refusals.py`) of how it ends where it cannot
serve.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from checks import run_all
from context import left_out
from refusals import refusals
from sandbox import BASE, ROOT, USER, Container, can_be_others, into_own_network, libraries_asked_for
from service import png_size
from stage import GRACE_SECONDS, MODEL, Stage, png

MOST_BYTES = 250_000_000
SLOW_SIZE, SLOW_SECONDS = "512x512", 3.0


def files_below(folder: Path) -> dict[str, tuple]:
    """Every entry with what would tell of a change: kind and mode, owner, length, time, content."""
    return {
        str(path.relative_to(folder)): (
            (known := path.lstat()).st_mode, known.st_uid, known.st_size if path.is_file() else 0, known.st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and known.st_mode & stat.S_IRUSR else "",
        )
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


# The tree


def the_tree_is_small(stage: Stage) -> str:
    size = sum(path.stat().st_size for path in stage.tree.rglob("*") if path.is_file())
    weights = sum(path.stat().st_size for path in (ROOT / "models/sketchbook").rglob("*.safetensors"))
    assert size < MOST_BYTES, f"{size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} MB are allowed"
    return f"{size / 1e6:.1f} MB, {weights / 1e6:.1f} MB of them the embedded model's weights"


def the_tree_asks_its_base_for_the_c_and_cpp_libraries_alone(stage: Stage) -> str:
    asked = set(libraries_asked_for(stage.tree))
    assert asked <= BASE, f"no base image has {sorted(asked - BASE)}"
    return " ".join(sorted(asked))


def everybody_may_read_the_tree_and_nobody_but_its_owner_may_write(stage: Stage) -> None:
    for path in stage.tree.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode in ((0o755,) if path.is_dir() else (0o644, 0o755)), f"{path}: {mode:o}"


def the_build_context_has_what_the_binary_is_made_of(stage: Stage) -> str:
    missing, count = left_out(stage.binary, ROOT)
    assert not missing, f".dockerignore or the Dockerfile's COPY leave out {missing}"
    return f"{count} files"


# The service in it


def it_serves_a_picture_and_passes_its_health_check(stage: Stage) -> str:
    began = time.monotonic()
    with stage.container() as container:
        ready = time.monotonic() - began
        assert png_size(png(container, "128x128")) == (128, 128)
        for question in ["healthcheck"], ["healthcheck", "--ready"]:
            health = container.run(*question)
            assert health.returncode == 0, health.stderr
    unwell = container.run("healthcheck")
    assert unwell.returncode == 1 and unwell.stderr.count("\n") == 1, unwell
    return f"ready after {ready:.1f} s"


def it_serves_a_converted_model_from_a_volume_and_leaves_it_alone(stage: Stage) -> None:
    before = files_below(stage.models)
    with stage.container({MODEL: "/models/sketchbook"}, models=stage.models) as container:
        assert png_size(png(container, "128x128")) == (128, 128)
    assert files_below(stage.models) == before


def it_runs_as_nobody_with_nothing(stage: Stage) -> None:
    with stage.container() as container:
        process = Path(f"/proc/{container.pid}")
        known = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        inside = {name: known[name].split() for name in ("NSpid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs")}
        assert inside["NSpid"][-1] == "1", "not the first process of its space"
        assert {inside[name][0] for name in inside if name.startswith("Cap")} == {"0" * 16}, inside
        assert inside["NoNewPrivs"] == ["1"]
        if can_be_others():
            assert known["Uid"].split() == known["Gid"].split() == [str(USER)] * 4, known["Uid"]
        variables = {entry.partition("=")[0] for entry in (process / "environ").read_text().split("\0") if entry}
        assert variables == {"PATH", "PIXART_CONFIG", "PIXART__SERVER__GRACE_SECONDS", "PWD"}, variables
        routes = (process / "net/route").read_text().splitlines()[1:]
        assert not routes, f"there is a way out of the loopback: {routes}"
        writable = {
            fields[4]
            for fields in map(str.split, (process / "mountinfo").read_text().splitlines())
            if "rw" in fields[5].split(",")
        }
        ours = {place for place in writable if not re.match(r"/(proc|dev)\b", place)}
        assert ours == {"/tmp"}, f"writable: {ours}"


def it_leaves_no_file_outside_its_tmpfs(stage: Stage) -> str:
    before = files_below(stage.tree)
    with stage.container() as container:
        png(container, "192x128")
        inside = Path(f"/proc/{container.pid}/root")
        found, kept = set(), 0
        for folder, folders, files in os.walk(inside):
            place = Path("/") / Path(folder).relative_to(inside)
            # What the kernel shows there is no file of anybody's.
            folders[:] = [name for name in folders if str(place / name) not in ("/proc", "/sys", "/dev/pts")]
            for name in files:
                if place.is_relative_to("/tmp"):
                    kept += (Path(folder) / name).stat().st_size
                elif stat.S_ISREG((Path(folder) / name).lstat().st_mode):
                    found.add(str(place / name))
        expected = {f"/{name}" for name in before if (stage.tree / name).is_file()}
        expected |= {str(path) for path in libraries_asked_for(stage.tree).values()}
        assert found == expected, f"more: {found - expected}, fewer: {expected - found}"
    assert files_below(stage.tree) == before
    return f"{kept / 1e6:.1f} MB on the tmpfs"


def sigterm_lets_the_running_picture_finish_and_ends_with_0(stage: Stage) -> str:
    with stage.container() as container:
        steps = container.steps_that_take(SLOW_SECONDS, SLOW_SIZE)
        pictures: list[bytes] = []
        drawing = threading.Thread(target=lambda: pictures.append(png(container, SLOW_SIZE, scheduler="lcm", steps=steps)))
        drawing.start()
        while container.metric("pixart_requests_running") == 0:
            assert drawing.is_alive(), "the picture was there before the signal: make it slower"
            time.sleep(0.02)
        container.terminate()
        began = time.monotonic()
        assert container.wait(GRACE_SECONDS + 5) == 0
        took = time.monotonic() - began
        drawing.join()
        assert pictures and png_size(pictures[0]) == (512, 512)
        assert took < GRACE_SECONDS + 1, f"{took:.1f} s"
    return f"after {took:.1f} s"


# A volume that changes while it is served


def drawn(container: Container) -> bytes | None:
    """A picture, or None where the service answers that it cannot or is gone."""
    try:
        return png(container, "128x128")
    except (urllib.error.URLError, ConnectionError):
        return None


def a_model_that_is_replaced_by_renaming_is_served_on(stage: Stage) -> None:
    with stage.copy_of_models() as volume, stage.container({MODEL: "/models/sketchbook"}, models=volume) as container:
        before = drawn(container)
        (volume / "sketchbook").rename(volume / "old")
        shutil.copytree(self_made_other(volume / "old"), volume / "sketchbook", dirs_exist_ok=True)
        assert before is not None and drawn(container) == before
        shutil.rmtree(volume / "old")
        assert drawn(container) == before


def self_made_other(folder: Path) -> Path:
    """Another model at the same place: none of its bytes may be drawn with before a restart."""
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    for weights in other.glob("*.bin"):
        weights.write_bytes(b"\x11" * weights.stat().st_size)
    return other


def changed_in_place(stage: Stage, change: Callable[[Path], object]) -> str:
    """The service draws what it drew, or nothing any more: then it ends, or is unready, and one line says why."""
    with stage.copy_of_models() as volume:
        container = stage.container({MODEL: "/models/sketchbook"}, models=volume)
        container.__enter__()
        try:
            before = drawn(container)
            assert before is not None
            for weights in (volume / "sketchbook").glob("*.bin"):
                change(weights)
            after = [drawn(container) for _ in range(2)]
            assert all(picture in (before, None) for picture in after), "it draws other pictures than before, and is ready"
            if None in after:
                told = [line for line in container.log().splitlines() if "changed" in line and "/models" in line]
                assert len(told) == 1, f"it stopped without a line on the model that changed: {container.log()[-500:]}"
                return told[0]
            return "drawn as before"
        finally:
            container._stop()


def weights_that_are_cut_off_while_they_are_served_end_it_with_a_line(stage: Stage) -> str:
    return changed_in_place(stage, lambda weights: os.truncate(weights, 0))


def weights_that_are_overwritten_while_they_are_served_end_it_with_a_line(stage: Stage) -> str:
    return changed_in_place(stage, lambda weights: weights.write_bytes(b"\x11" * weights.stat().st_size))


CHECKS: list[tuple[str, Callable[[Stage], str | None]]] = [
    (check.__name__, check)
    for check in (
        the_tree_is_small,
        the_tree_asks_its_base_for_the_c_and_cpp_libraries_alone,
        everybody_may_read_the_tree_and_nobody_but_its_owner_may_write,
        the_build_context_has_what_the_binary_is_made_of,
        it_serves_a_picture_and_passes_its_health_check,
        it_serves_a_converted_model_from_a_volume_and_leaves_it_alone,
        it_runs_as_nobody_with_nothing,
        it_leaves_no_file_outside_its_tmpfs,
        sigterm_lets_the_running_picture_finish_and_ends_with_0,
        a_model_that_is_replaced_by_renaming_is_served_on,
        weights_that_are_cut_off_while_they_are_served_end_it_with_a_line,
        weights_that_are_overwritten_while_they_are_served_end_it_with_a_line,
    )
] + list(refusals())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pixart", type=Path, required=True, help="the binary that is laid out")
    parser.add_argument("--libraries", type=Path, default=ROOT / ".openvino/libs", help="what 'make runtime' brings")
    parser.add_argument("--only", metavar="WORD", help="the checks with this word in their name")
    arguments = parser.parse_args()
    into_own_network()

    with tempfile.TemporaryDirectory(prefix="pixart-tree-") as name:
        Path(name).chmod(0o755)
        stage = Stage(arguments.pixart.resolve(), arguments.libraries.resolve(), Path(name))
        return run_all("tree", CHECKS, stage, arguments.only)


if __name__ == "__main__":
    sys.exit(main())
