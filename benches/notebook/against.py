"""Holds `pixart` against the notebook's way on the same checkpoint: stage by stage, start by start, picture by picture.

    against.py --pixart BINARY --model CONVERTED --ir TRACED --checkpoint DIFFUSERS [--json FILE] [PART …]

Parts, in this order: `stages` (each network alone on both sides, both resident, run by turns with the same inputs, outputs
compared), `start` (a process to compiled networks, by turns), `pictures` (whole pictures, a process a turn: two full-size
models do not fit into 24 GB together). A pair's ratio is the notebook's time by pixart's: above 1, pixart is faster.

The Python side runs in this interpreter's environment (requirements.txt); nothing is taken from the network.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from words import table

HERE = Path(__file__).resolve().parent
PARTS = ("stages", "start", "pictures")
PADDED = 120
# Relative RMS difference of outputs that is rounding: two networks in bf16 (8 bits of mantissa, 24 layers deep) differ by
# up to 2 %; int8 weights on one side add as much again. In f32 both are far below.
ROUNDING = 0.05


class Worker:
    """A process that answers a line with a line."""

    def __init__(self, *command: object) -> None:
        self.begun = time.monotonic()
        # The traced transformer's warnings are nobody's.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ready = self.answer()
        self.start_seconds = time.monotonic() - self.begun

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended with {self.process.wait()} instead of an answer")
        return json.loads(line)

    def ask(self, **order: object) -> dict:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class Sides:
    """Both sides' commands."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments

    def pixart(self, *words: object) -> list[object]:
        return [self.arguments.pixart, "bench", "--model", self.arguments.model, *words]

    def notebook(self, *words: object) -> list[object]:
        return [sys.executable, HERE / "worker.py", self.arguments.ir, *words]

    def ours(self, network: str) -> Worker:
        return Worker(*self.pixart("--component", network))

    def theirs(self, network: str) -> Worker:
        return Worker(*self.notebook(network))


# ---------------------------------------------------------------------------------------------------------------- stages


def stages(sides: Sides, work: Path) -> list[dict]:
    """The text encoder first: its embeddings are the transformer's input."""
    arguments = sides.arguments
    found = []
    ids = token_ids(arguments)
    print(f"{len(ids)} tokens here, {PADDED} padded ones there", file=sys.stderr)
    true = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    padded = {name: np.pad(values, ((0, 0), (0, PADDED - len(ids)))) for name, values in true.items()}
    result, (ours, theirs) = alternate(sides, work, "text_encoder", true, padded)
    theirs = theirs[:, : len(ids)]
    found.append(result | {"tokens": len(ids), "padded_tokens": PADDED} | difference(ours, theirs))

    rows, columns = arguments.height // 8, arguments.width // 8
    random = np.random.default_rng(0)
    common = {
        "hidden_states": random.standard_normal((1, 4, rows, columns), np.float32),
        "timestep": np.array([999]),
        "resolution": np.array([[arguments.height, arguments.width]], np.float32),
        "aspect_ratio": np.array([[arguments.height / arguments.width]], np.float32),
    }
    text = {
        "encoder_hidden_states": theirs,
        "encoder_attention_mask": np.ones(theirs.shape[:2], np.float32),
    }
    text_padded = {
        "encoder_hidden_states": np.pad(theirs, ((0, 0), (0, PADDED - len(ids)), (0, 0))),
        "encoder_attention_mask": np.pad(text["encoder_attention_mask"], ((0, 0), (0, PADDED - len(ids)))),
    }
    result, outputs = alternate(sides, work, "transformer", common | text, common | text_padded)
    found.append(result | difference(*outputs))

    latents = {"latents": 4 * random.standard_normal((1, 4, rows, columns), np.float32)}
    result, outputs = alternate(sides, work, "vae_decoder", latents, latents)
    found.append(result | difference(*outputs))
    return found


def alternate(sides: Sides, work: Path, network: str, mine: dict, other: dict) -> tuple[dict, list[np.ndarray]]:
    """Both networks resident, run by turns; the first of each packs weights and does not count."""
    names = {"text_encoder": "text_encode", "transformer": "step", "vae_decoder": "vae_decode"}
    with sides.ours(network) as ours, sides.theirs(network) as theirs:
        outputs = []
        for worker, inputs, name in ((ours, mine, "ours"), (theirs, other, "theirs")):
            path = work / f"{network}-{name}.f32"
            answer = worker.ask(inputs=stored(work, name, inputs), output=str(path))
            outputs.append(np.fromfile(path, "<f4").reshape(answer["shape"]))
        pairs = []
        answers: dict[str, dict] = {}
        for pair in range(sides.arguments.pairs):
            turn = {}
            order = (("pixart", ours), ("notebook", theirs))
            for name, worker in order if pair % 2 == 0 else order[::-1]:
                answers[name] = worker.ask()
                turn[name] = answers[name]["seconds"]
            pairs.append(turn)
            progress(f"{names[network]} {pair + 1}/{sides.arguments.pairs}", turn)
        memory = {name: answer["memory"] for name, answer in answers.items()}
        precision = ours.ready["precision"], theirs.ready["precision"]
    return {"stage": names[network], "precision": precision, "memory": memory} | ratios(pairs), outputs


def stored(work: Path, name: str, tensors: dict[str, np.ndarray]) -> dict:
    """Tensors as the lines name them."""
    found = {}
    for port, values in tensors.items():
        path = work / f"{name}-{port}.bin"
        kind = "i64" if values.dtype.kind == "i" else "f32"
        values.astype({"i64": "<i8", "f32": "<f4"}[kind]).tofile(path)
        found[port] = {"shape": list(values.shape), "type": kind, "file": str(path)}
    return found


def token_ids(arguments: argparse.Namespace) -> list[int]:
    from transformers import T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(arguments.checkpoint / "tokenizer")
    return tokenizer(arguments.prompt.lower().strip(), max_length=PADDED, truncation=True).input_ids


def difference(ours: np.ndarray, theirs: np.ndarray) -> dict:
    """How far two outputs are apart: relative RMS, cosine, and the largest difference by the largest value."""
    a, b = (array.astype(np.float64).ravel() for array in (ours, theirs))
    rms = float(np.sqrt(np.mean((a - b) ** 2)) / np.sqrt(np.mean(b**2)))
    return {
        "difference": {
            "relative_rms": rms,
            "cosine": float(a @ b / np.sqrt((a @ a) * (b @ b))),
            "largest_by_largest": float(np.abs(a - b).max() / np.abs(b).max()),
            "within_rounding": rms <= ROUNDING,
        }
    }


# ----------------------------------------------------------------------------------------------------- starts, pictures


def start(sides: Sides, _: Path) -> dict:
    """From the beginning of a process to compiled networks; one start of each fills the page cache and does not count."""
    arguments = sides.arguments
    commands = {
        "pixart": sides.pixart("--ready", "--sizes", f"{arguments.width}x{arguments.height}"),
        "notebook": sides.notebook("picture", "--checkpoint", arguments.checkpoint),
    }
    pairs, told = [], []
    for pair in range(arguments.pairs + 1):
        turn, words = {}, {}
        for name in commands if pair % 2 == 0 else reversed(commands):
            with Worker(*commands[name]) as worker:
                turn[name], words[name] = worker.start_seconds, worker.ready
        progress(f"start {pair}/{arguments.pairs}", turn)
        if pair > 0:
            pairs.append(turn)
            told.append(words)
    # Harder for pixart: its whole start against nothing but the notebook's reading and compiling.
    compiling = [
        {"pixart": turn["pixart"], "notebook": words["notebook"]["compile_seconds"]} for turn, words in zip(pairs, told)
    ]
    return {"process_to_ready": ratios(pairs), "ready_by_compile_alone": ratios(compiling), "told": told}


def pictures(sides: Sides, work: Path) -> dict:
    """Whole pictures, each in a process of its own after one of a single step."""
    arguments = sides.arguments
    variants = arguments.variant or [("pixart", arguments.model, "full")]
    draws = {name: functools.partial(pixart_picture, sides, work, model, decoder) for name, model, decoder in variants}
    ours = list(draws)
    draws["notebook"] = functools.partial(notebook_picture, sides, work)
    pairs, stages = [], []
    for pair in range(arguments.pairs):
        turn, parts = {}, {}
        for name in draws if pair % 2 == 0 else reversed(draws):
            turn[name], parts[name] = draws[name]()
        pairs.append(turn)
        stages.append(parts)
        progress(f"picture {pair + 1}/{arguments.pairs}", turn)
    found = {name: ratios(pairs, name) for name in ours}
    return found.get("pixart", {"variants": found}) | {"stages": stages}


def pixart_picture(sides: Sides, work: Path, model: object, decoder: str) -> tuple[float, dict]:
    arguments = sides.arguments
    path = work / "turn.json"
    size = f"{arguments.width}x{arguments.height}"
    words = ["--quiet", "--no-peak", "--repeat", 1, "--steps", arguments.steps, "--sizes", size]
    words += ["--prompt", arguments.prompt, "--json", path, "--decoder", decoder]
    command = [arguments.pixart, "bench", "--model", model, *words]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    report = json.loads(path.read_text())
    case = report["cases"][0]
    parts = {stage["name"]: stage["seconds"] for stage in [*case["stages"], case["step"]]}
    return case["whole"]["median"], parts | {"memory": case["memory"], "stage_sum_share": case["stage_sum_share"]}


def notebook_picture(sides: Sides, _: Path) -> tuple[float, dict]:
    arguments = sides.arguments
    order = {"prompt": arguments.prompt, "width": arguments.width, "height": arguments.height}
    with Worker(*sides.notebook("picture", "--checkpoint", arguments.checkpoint)) as worker:
        worker.ask(**order, steps=1)
        answer = worker.ask(**order, steps=arguments.steps)
    return answer["seconds"], answer["stages"] | {"memory": answer["memory"]}


# -------------------------------------------------------------------------------------------------------------- in words


def ratios(pairs: list[dict[str, float]], ours: str = "pixart") -> dict:
    found = [pair["notebook"] / pair[ours] for pair in pairs]
    return {
        "pixart_seconds": [pair[ours] for pair in pairs],
        "notebook_seconds": [pair["notebook"] for pair in pairs],
        "pairs": found,
        "median": statistics.median(found),
    }


def progress(what: str, turn: dict[str, float]) -> None:
    print(f"{what}: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in turn.items()), file=sys.stderr)


def main() -> None:
    arguments = parse()
    sides = Sides(arguments)
    report: dict = {
        "schema": 1,
        "size": f"{arguments.width}x{arguments.height}",
        "steps": arguments.steps,
        "model": str(arguments.model.name),
    }
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            if part in (arguments.parts or PARTS):
                report[part] = globals()[part](sides, Path(folder))
                # What an interruption leaves is whole as far as it goes.
                if arguments.json:
                    arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them")
    parser.add_argument("--pixart", type=Path, required=True, help="the binary, optimised")
    parser.add_argument("--model", type=Path, required=True, help="the checkpoint as 'pixart convert' wrote it")
    parser.add_argument("--ir", type=Path, required=True, help="the checkpoint as trace.py wrote it")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the diffusers directory of both")
    parser.add_argument("--width", type=int, default=1024, help="pixels; that of trace.py")
    parser.add_argument("--height", type=int, default=1024, help="pixels; that of trace.py")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--prompt", default="A small cactus with a happy face in the Sahara desert.")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument(
        "--variant", nargs=3, action="append", default=[], metavar=("NAME", "MODEL", "DECODER"),
        help="of pictures: another model in place of --model, and the decoder, full or tiny; may be given again",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write everything here")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    main()
