#!/usr/bin/env python3
"""Holds `pixart` against diffusers and against IR traced by Python, everything made afresh.

    python tests/golden/parity.py --pixart target/release/pixart --work DIR

Six checks, one table, exit status 1 when a bound is broken:

pictures  each case drawn by diffusers, and by `pixart convert` and `pixart generate` in f32
ir        the IR that `pixart convert` wrote, run by Python's OpenVINO inside diffusers' pipeline
traced    a folder that Python traced the notebook's way, run by `pixart generate`
published each full repository as `pixart synthesize` makes it, small: drawn by diffusers and by `pixart`, in f32
vae       a decoder of the published shape at 1024x1024: converted by `pixart` against traced by Python, in time
convert   a checkpoint of the published shapes, f16 to f16, against copying its files: time and peak memory
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import openvino as ov
import torch
from diffusers import AutoencoderKL
from PIL import Image

import published
from cases import CASES, ROOT, SKETCHBOOK, Case, assemble_checkpoint, draw, hush, load_pipeline
from checkpoints import draw_parameters
from notebook import FAITHFUL, trace_pipeline, trace_vae, with_compiled_parts
from synthesized import PUBLISHED_CASES, synthesize

# Drawn in f64, every case is within 3 bytes of 10,000 of its f32 picture and none is off by more than 1.
LEAST_EQUAL_SHARE = 0.999
LARGEST_DIFFERENCE = 2

TRACED_CASES = ("sketchbook-lcm-cactus", "sketchbook-teacher-dpm")  # both 256x256, one without guidance and one with

PUBLISHED_TEXT_LAYERS = 6  # of 24: enough to be gigabytes, and few enough for torch to make on a small machine
CONVERT_PAIRS = 3
LARGEST_CONVERT_RATIO = 2.0  # median over the pairs of (convert seconds / copy seconds)
LARGEST_TENSOR = 32128 * 4096 * 2  # the embeddings of T5-XXL
LARGEST_MEMORY = (1 << 30) + 3 * LARGEST_TENSOR
VAE_PAIRS = 3
LEAST_VAE_RATIO = 1.25  # median over the pairs of (traced seconds / converted seconds)
LARGEST_VAE_ERROR = 0.05  # relative RMS between the two, both in bf16: a quick decoder must also be the same one


@dataclass(frozen=True)
class Outcome:
    """One line of the table."""

    check: str
    subject: str
    result: str
    passed: bool


@dataclass(frozen=True)
class Pixart:
    """The binary under test and the folder in which everything is made."""

    binary: Path
    work: Path

    def convert(self, checkpoint: Path, weights: str) -> Path:
        """Converts a diffusers directory, anew, and returns the model directory."""
        model = self.work / "converted" / f"{checkpoint.name}-{weights}"
        shutil.rmtree(model, ignore_errors=True)
        model.parent.mkdir(parents=True, exist_ok=True)
        self._run("convert", checkpoint, "--output", model, "--weights", weights)
        return model

    def generate(self, model: Path, case: Case, output: Path, *more: object) -> np.ndarray:
        """Draws a case in f32 and returns its pixels, u8 [H, W, 3]."""
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        flags = {
            "--model": model,
            "--negative-prompt": case.negative_prompt,
            "--steps": case.num_inference_steps,
            "--guidance-scale": case.guidance_scale,
            "--seed": case.seed,
            "--size": f"{case.width}x{case.height}",
            "--scheduler": case.scheduler,
            "--precision": "f32",
            "--output": output,
        }
        binning = "--resolution-binning" if case.use_resolution_binning else "--no-resolution-binning"
        self._run("generate", case.prompt, *(part for flag in flags.items() for part in flag), binning, *more)
        return np.asarray(Image.open(output).convert("RGB"))

    def _run(self, *arguments: object) -> None:
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pixart {arguments[0]} exited with {done.returncode}: {done.stderr.strip()[-2000:]}")


class Bench:
    """The six checks over one work folder. What several checks need is made once."""

    def __init__(self, pixart: Pixart) -> None:
        self.pixart = pixart
        self.core = ov.Core()
        self.checkpoint = cache(self._assemble)
        self.converted = cache(lambda checkpoint: pixart.convert(self.checkpoint(checkpoint), "f32"))
        self.reference = cache(self._draw_with_diffusers)

    def pictures(self) -> Iterator[Outcome]:
        """Every case through the whole of `pixart`."""
        for case in CASES:
            if case.prompt:  # the command line asks for a prompt; the empty one's case runs in the tests
                yield self._compare("pictures", case, self._draw_with_pixart)

    def ir(self) -> Iterator[Outcome]:
        """Every case through diffusers with the networks replaced by the converted IR."""
        for case in CASES:
            yield self._compare("ir", case, self._draw_with_converted_ir)

    def traced(self) -> Iterator[Outcome]:
        """IR traced by Python through `pixart`."""
        for case in CASES:
            if case.name in TRACED_CASES:
                yield self._compare("traced", case, self._draw_traced_with_pixart)

    def published(self) -> Iterator[Outcome]:
        """Every full published repository, from its files to the image."""
        for case in PUBLISHED_CASES:
            yield self._compare("published", case, self._draw_with_pixart)

    def vae(self) -> Iterator[Outcome]:
        """Both decoders turn by turn on the same latents, in the device's default precision."""
        try:
            traced, converted = self._published_vae_both_ways()
            seconds_of, error = self._time_in_turns(traced, converted)
        except Exception as failure:  # one failed check must not hide the others
            yield Outcome("vae", "1024x1024", f"{type(failure).__name__}: {failure}", passed=False)
            return
        ratios = [slow / quick for slow, quick in seconds_of]
        for (slow, quick), ratio in zip(seconds_of, ratios, strict=True):
            print(f"vae: traced {slow:.2f} s, converted {quick:.2f} s, ratio {ratio:.3f}", flush=True)
        median = statistics.median(ratios)
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        yield Outcome("vae", "1024x1024 speed", f"{listed}; median {median:.2f}", median >= LEAST_VAE_RATIO)
        yield Outcome("vae", "1024x1024 error", f"{error:.4f} relative RMS", error <= LARGEST_VAE_ERROR)

    def convert(self) -> Iterator[Outcome]:
        """Conversion and copy of the same files, turn by turn."""
        try:
            source = self.pixart.work / "checkpoints" / "published"
            published.make_published(source, ROOT / SKETCHBOOK, PUBLISHED_TEXT_LAYERS)
            pairs = [self._convert_and_copy(source) for _ in range(CONVERT_PAIRS)]
        except Exception as failure:  # one failed check must not hide the others
            yield Outcome("convert", "published shapes", f"{type(failure).__name__}: {failure}", passed=False)
            return
        for converting, copying in pairs:
            print(f"convert: {converting:.2f} s, cp {copying:.2f} s, ratio {converting / copying:.3f}", flush=True)
        median = statistics.median(converting / copying for converting, copying in pairs)
        listed = ", ".join(f"{converting / copying:.2f}" for converting, copying in pairs)
        yield Outcome("convert", "time against cp", f"{listed}; median {median:.2f}", median <= LARGEST_CONVERT_RATIO)
        peak = self._conversion_peak(source)
        listed = f"{peak / 1e6:.0f} MB of {LARGEST_MEMORY / 1e6:.0f} MB"
        yield Outcome("convert", "peak memory", listed, peak <= LARGEST_MEMORY)

    def _conversion_peak(self, source: Path) -> int:
        """Peak memory of one conversion in bytes, measured from a process that is small itself: a child starts with
        the peak of its parent."""
        measure = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        output = self.pixart.work / "converted" / "measured"
        command = [self.pixart.binary, "convert", source, "--output", output, "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", measure, *map(str, command)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        shutil.rmtree(output)
        return int(done.stdout) * 1024

    def _convert_and_copy(self, source: Path) -> tuple[float, float]:
        """Seconds of a conversion and of a copy, each to a folder that is not there yet and on a disk at rest."""
        os.sync()
        start = time.perf_counter()
        converted = self.pixart.convert(source, "f16")
        converting = time.perf_counter() - start
        shutil.rmtree(converted)
        copy = self.pixart.work / "copied"
        os.sync()
        start = time.perf_counter()
        subprocess.run(["cp", "-r", source, copy], check=True)
        copying = time.perf_counter() - start
        shutil.rmtree(copy)
        return converting, copying

    # --- drawing

    def _assemble(self, checkpoint: str) -> Path:
        scratch = self.pixart.work / "checkpoints"
        folder = scratch / Path(checkpoint).name
        shutil.rmtree(folder, ignore_errors=True)
        if any(checkpoint == case.checkpoint for case in PUBLISHED_CASES):
            scratch.mkdir(parents=True, exist_ok=True)
            return synthesize(self.pixart.binary, checkpoint, folder)
        return assemble_checkpoint(checkpoint, scratch)

    def _draw_with_diffusers(self, case: Case) -> np.ndarray:
        folder = self.checkpoint(case.checkpoint) if case in PUBLISHED_CASES else None
        with load_pipeline(case, folder=folder) as pipeline:
            return draw(pipeline, case)["image"].numpy()

    def _draw_with_pixart(self, case: Case) -> np.ndarray:
        output = self.pixart.work / "pictures" / f"{case.name}.png"
        return self.pixart.generate(self.converted(case.checkpoint), case, output)

    def _draw_with_converted_ir(self, case: Case) -> np.ndarray:
        model = self.converted(case.checkpoint)
        parts = [
            self.core.compile_model(model / f"{part}.xml", "CPU", FAITHFUL)
            for part in ("text_encoder", "transformer", "vae_decoder")
        ]
        with load_pipeline(case) as pipeline:
            compiled = with_compiled_parts(pipeline, *parts)
            compiled.set_progress_bar_config(disable=True)
            return draw(compiled, replace(case, captured="final"))["image"].numpy()

    def _draw_traced_with_pixart(self, case: Case) -> np.ndarray:
        folder = self.pixart.work / "traced" / Path(case.checkpoint).name
        shutil.rmtree(folder, ignore_errors=True)
        with load_pipeline(case) as pipeline:
            trace_pipeline(pipeline, folder, case.width, case.height)
        output = self.pixart.work / "pictures" / f"{case.name}-traced.png"
        return self.pixart.generate(folder, case, output, "--checkpoint", self.checkpoint(case.checkpoint))

    def _compare(self, check: str, case: Case, draw_other: Callable[[Case], np.ndarray]) -> Outcome:
        try:
            expected, got = self.reference(case), draw_other(case)
        except Exception as failure:  # one failed case must not hide the others
            return Outcome(check, case.name, f"{type(failure).__name__}: {failure}", passed=False)
        if expected.shape != got.shape:
            return Outcome(check, case.name, f"shape {got.shape}, expected {expected.shape}", passed=False)
        difference = np.abs(expected.astype(np.int16) - got.astype(np.int16))
        share, largest = float((difference == 0).mean()), int(difference.max())
        passed = share >= LEAST_EQUAL_SHARE and largest <= LARGEST_DIFFERENCE
        return Outcome(check, case.name, f"{share:.4%} of bytes equal, largest difference {largest}", passed)

    # --- the published VAE

    def _published_vae_both_ways(self) -> tuple[Path, Path]:
        """The sketchbook with a VAE of the published shape: the decoder traced by Python and converted by `pixart`."""
        checkpoint = self.pixart.work / "checkpoints" / "published-vae"
        shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.copytree(ROOT / SKETCHBOOK, checkpoint, ignore=shutil.ignore_patterns("vae"))
        vae = AutoencoderKL(**published.VAE)
        draw_parameters(torch.Generator("cpu").manual_seed(0), vae)
        vae = vae.half()
        vae.save_pretrained(checkpoint / "vae")

        traced = self.pixart.work / "traced" / "published-vae" / "vae_decoder.xml"
        traced.parent.mkdir(parents=True, exist_ok=True)
        # The graph does not depend on the size it is traced at. f16 files, as the notebook's `save_model` makes them.
        trace_vae(vae.float(), torch.ones((1, 4, 16, 16)), traced, compress_to_fp16=True)
        return traced, self.pixart.convert(checkpoint, "f16") / "vae_decoder.xml"

    def _time_in_turns(self, traced: Path, converted: Path) -> tuple[list[tuple[float, float]], float]:
        """(traced, converted) seconds of each pair after a warm-up, and how far apart the two pictures are."""
        latents = torch.randn((1, 4, 128, 128), generator=torch.Generator("cpu").manual_seed(1)).numpy()
        decoders = [self.core.compile_model(path, "CPU") for path in (traced, converted)]
        expected, got = (decoder({"latents": latents})[0].astype(np.float64) for decoder in decoders)
        error = float(np.sqrt(((got - expected) ** 2).mean()) / expected.std())
        pairs = []
        for number in range(VAE_PAIRS):
            # Who goes first changes from pair to pair, so that a machine getting slower or quicker favours neither.
            order = (0, 1) if number % 2 == 0 else (1, 0)
            seconds = {turn: _seconds(decoders[turn], latents) for turn in order}
            pairs.append((seconds[0], seconds[1]))
        return pairs, error


def _seconds(decoder: ov.CompiledModel, latents: np.ndarray) -> float:
    start = time.perf_counter()
    decoder({"latents": latents})
    return time.perf_counter() - start


def main() -> int:
    """Runs the checks and prints the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixart", type=Path, required=True, metavar="PATH", help="the pixart binary")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where to make everything")
    checks = ("pictures", "ir", "traced", "published", "vae", "convert")
    parser.add_argument(
        "--only", action="append", choices=checks, metavar="CHECK", help=f"one of {', '.join(checks)}; repeatable"
    )
    options = parser.parse_args()

    hush()
    bench = Bench(Pixart(options.pixart.resolve(), options.work.resolve()))
    outcomes = []
    for check in options.only or checks:
        for outcome in getattr(bench, check)():
            print(f"{outcome.check}: {outcome.subject}: {'pass' if outcome.passed else 'FAIL'}", flush=True)
            outcomes.append(outcome)

    print()
    for outcome in outcomes:
        print(f"{outcome.check:<9} {outcome.subject:<24} {'pass' if outcome.passed else 'FAIL'}  {outcome.result}")
    failed = sum(not outcome.passed for outcome in outcomes)
    print(f"\n{len(outcomes) - failed} of {len(outcomes)} within bounds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
