"""What each way of quantising costs sketchbook's pictures: `make quantize-modes` prints the tables of docs/quantize.md.

Every mode is quantised anew from the f16 model in the work folder, each component alone and all together, and held against
it: PSNR and the cosine of the last latents are medians of the eight scenes of `pixart compare`, the original in f32; the
score is that of 500 captions. Python alone is needed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRANSFORMER = ("--vae-decoder", "keep", "--text-encoder-weights", "keep")
VAE = ("--transformer", "keep", "--text-encoder-weights", "keep")
# Groups of 128 do not divide sketchbook's rows of 192.
TEXT = ("--transformer", "keep", "--vae-decoder", "keep", "--group", 64)
BOTH = ("--text-encoder-weights", "keep")
# What it is called, the flags of `pixart quantize` (none: the original), and the decoder.
MODES = (
    ("the original, bf16", None, "full"),
    ("transformer `weights`", (*TRANSFORMER, "--transformer", "weights"), "full"),
    ("transformer `hybrid`", (*TRANSFORMER, "--transformer", "hybrid"), "full"),
    ("transformer `full`", TRANSFORMER, "full"),
    ("VAE `full`", VAE, "full"),
    ("VAE `weights`", (*VAE, "--vae-decoder", "weights"), "full"),
    ("VAE `weights`, `int4`", (*VAE, "--vae-decoder", "weights", "--vae-decoder-weights", "int4", "--group", 72), "full"),
    ("text encoder `int8`", (*TEXT, "--text-encoder-weights", "int8"), "full"),
    ("text encoder `int4`", TEXT, "full"),
    ("text encoder `int4`, `--embeddings int8`", (*TEXT, "--embeddings", "int8"), "full"),
    ("text encoder `int4-asymmetric`", (*TEXT, "--text-encoder-weights", "int4-asymmetric"), "full"),
    ("the defaults: transformer and VAE `full`, text encoder `int4`", ("--group", 64), "full"),
    ("the original, tiny decoder", None, "tiny"),
    ("the defaults, tiny decoder", ("--group", 64), "tiny"),
)
# Only their pictures are compared.
RANGES = (
    ("`--range min-max`", BOTH, "full"),
    ("`--range percentile:99.9`", (*BOTH, "--range", "percentile:99.9"), "full"),
    ("`--range mean-min-max`", (*BOTH, "--range", "mean-min-max"), "full"),
    ("`--tolerance 0.05`", (*BOTH, "--tolerance", "0.05"), "full"),
    ("`--tolerance 0.03`", (*BOTH, "--tolerance", "0.03"), "full"),
    ("`--tolerance 0.02`", (*BOTH, "--tolerance", "0.02"), "full"),
    ("`--samples 4`", (*BOTH, "--samples", 4), "full"),
)
SCORED = ("object", "colour", "place", "all_three", "mood")


class Bench:
    """One run in one work folder."""

    def __init__(self, pixart: Path, work: Path) -> None:
        self.pixart, self.work = pixart, work
        self.original = work / "f16"
        work.mkdir(parents=True, exist_ok=True)
        self.run("convert", ROOT / "models/sketchbook", "--output", self.original, "--quiet")

    def run(self, *words: object) -> None:
        subprocess.run([str(word) for word in (self.pixart, *words)], check=True, stdout=subprocess.DEVNULL)

    def model(self, flags: tuple | None) -> Path:
        if flags is None:
            return self.original
        # Of a flag that is there twice the last one counts.
        given: dict[object, object] = {"--samples": 32}
        given.update(zip(flags[::2], flags[1::2]))
        folder = self.work / "-".join(str(word).strip("-").replace(":", "") for pair in given.items() for word in pair)
        self.run("quantize", self.original, "--output", folder, "--quiet", *(word for pair in given.items() for word in pair))
        return folder

    def compared(self, model: Path, decoder: str) -> dict:
        told = self.work / "told.json"
        exact = ("--reference-precision", "f32", "--repeat", 0)
        self.run("compare", self.original, model, *exact, "--decoder", decoder, "--quiet", "--json", told)
        return json.loads(told.read_text())

    def scored(self, model: Path, decoder: str) -> dict:
        told = self.work / "told.json"
        words = ("--repeat", 0, "--prompt", "a cat", "--score", 500, "--decoder", decoder)
        self.run("compare", self.original, model, *words, "--quiet", "--json", told)
        return json.loads(told.read_text())["scores"]["b"]


def figures(told: dict) -> list[str]:
    quality = told["quality"]
    return [
        f"{told['sizes'][-1]['bytes']['b'] / 1e6:.1f}",
        f"{quality['median_psnr_db']:.1f} dB",
        f"{quality['least_psnr_db']:.1f}",
        f"{quality['median_latents_cosine']:.4f}",
    ]


def table(head: list[str], rows) -> None:
    print(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixart", type=Path, required=True, help="the binary, optimised")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the models")
    options = parser.parse_args()
    bench = Bench(options.pixart, options.work)
    head = ["what", "megabytes", "median PSNR", "least", "cosine"]

    def modes():
        for name, flags, decoder in MODES:
            model = bench.model(flags)
            score = bench.scored(model, decoder)
            shares = [f"{100 * score[part]['right'] / score[part]['of']:.1f}" for part in SCORED]
            yield [name, *figures(bench.compared(model, decoder)), *shares]

    table([*head, *(part.replace("_", " ") for part in SCORED)], modes())
    table(head, ([name, *figures(bench.compared(bench.model(flags), decoder))] for name, flags, decoder in RANGES))


if __name__ == "__main__":
    main()
