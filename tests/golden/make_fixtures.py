#!/usr/bin/env python3
"""Makes the golden fixtures: what diffusers, transformers, torch and OpenVINO answer, for `pixart` to be held against.

    pip install -r tests/golden/requirements.txt
    python tests/golden/make_fixtures.py

Everything is seeded, runs on the CPU in f32, and needs no network. The group `synthesized` runs a built `pixart`. PROVENANCE.md says what each file is.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import cases
import checkpoints
import numerics
import published
import synthesized
import text
from storage import sha256

GOLDEN = Path(__file__).resolve().parent
THREADS = 2  # sums are split by thread, so the count is part of what makes the bytes
# In the order in which they must be made: a case needs its checkpoint.
MAKERS = {
    "noise": numerics.make_noise,
    "schedules": numerics.make_schedules,
    "checkpoints": checkpoints.make_checkpoints,
    "cases": cases.make_cases,
    "text": text.make_text,
    "t5_buckets": numerics.make_t5_buckets,
    "binning": numerics.make_binning,
    "traced": cases.make_traced,
    "published": published.make_tensors,
    "synthesized": synthesized.make_cases,
}
NEED_PIXART = {"synthesized"}
MARK = "<!-- Below this line make_fixtures.py writes. -->"
PACKAGES = (
    "torch diffusers transformers tokenizers sentencepiece safetensors numpy openvino beautifulsoup4 ftfy pillow"
).split()


def main() -> None:
    """Makes all fixtures, or those named, and writes their checksums into PROVENANCE.md."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=GOLDEN, metavar="DIR", help="where to write (default: here)")
    arguments.add_argument(
        "--only", action="append", choices=MAKERS, metavar="NAME", help=f"one of {', '.join(MAKERS)}; repeatable"
    )
    arguments.add_argument(
        "--pixart",
        type=Path,
        default=cases.ROOT / "target/release/pixart",
        metavar="PATH",
        help="the binary that synthesizes checkpoints (default: target/release/pixart)",
    )
    options = arguments.parse_args()

    cases.hush()
    torch.set_num_threads(THREADS)
    out = options.out.resolve()
    for name, make in MAKERS.items():
        if options.only is None or name in options.only:
            print(f"making {name}", flush=True)
            if name in NEED_PIXART:
                make(out, options.pixart.resolve())
            else:
                make(out)
    write_provenance(out)


def write_provenance(out: Path) -> None:
    """`PROVENANCE.md`: what is written there by hand, then the versions that ran and a checksum for every fixture."""
    by_hand = (GOLDEN / "PROVENANCE.md").read_text(encoding="utf-8").partition(MARK)[0]
    versions = [f"| {package} | {metadata.version(package)} |" for package in PACKAGES]
    files = sorted(path for path in out.rglob("*") if path.is_file() and _is_fixture(path.relative_to(out)))
    checksums = [
        f"| `{path.relative_to(out).as_posix()}` | {path.stat().st_size} | `{sha256(path.read_bytes())}` |"
        for path in files
    ]
    lines = [
        f"{by_hand}{MARK}",
        "",
        "## Versions",
        "",
        "| package | version |",
        "|---|---|",
        f"| Python | {platform.python_version()} |",
        *versions,
        "",
        f"torch ran with {THREADS} threads and CPU capability {torch.backends.cpu.get_cpu_capability()}.",
        "",
        "## Checksums",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---:|---|",
        *checksums,
    ]
    (out / "PROVENANCE.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_fixture(path: Path) -> bool:
    """Whether a path under the output folder is one that this script makes."""
    return path.suffix in {".safetensors", ".json", ".jsonl", ".xml", ".bin"}


if __name__ == "__main__":
    main()
