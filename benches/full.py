"""The long measurements on a checkpoint of the published shapes: `make bench-full`.

Makes the checkpoint with `pixart synthesize` (or takes CHECKPOINT), converts it, measures, traces it the notebook's way,
holds both against each other by turns, and writes `benches/results/<date>-<processor>.{json,md}`. What lies in the work
folder is taken as it is; a run that was interrupted goes on with the first part whose result is not there.

Needs 30 GB of disk and 24 GB of memory; two cores take about an hour and a half. `--layers 1 --text-layers 1 --size
256x256` tries all of it in minutes. This script needs Python alone; the notebook's side runs in the environment of
`--python`, and is left out without it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "benches/notebook"
LIKE = "PixArt-alpha/PixArt-LCM-XL-2-1024-MS"
# Portrait and landscape, small and large; clipped to twice the size that is measured.
SIZES = ("256x256", "512x512", "512x768", "768x512", "1024x1024", "1536x1024", "2048x2048")
COPY_BYTES = 4 << 30
# 16 tokens, end mark included, of the vocabulary that `pixart synthesize` writes; as many as the cactus in the Sahara
# desert has in T5's own.
PROMPT = "A small green cactus with a happy face in the Sahara desert at noon."
# With NOW, the text encoder leaves memory before the first step.
ON_DEMAND = ("--text-encoder", "on_demand")
NOW = {"PIXART__MODEL__TEXT_ENCODER_IDLE_SECONDS": "0"}


# In this order; the largest sizes are measured last.
PARTS = ("checkpoint", "convert", "bench", "on_demand", "trace", "against", "start", "sizes")
# Without these there is nothing to write.
NEEDED = ("checkpoint", "convert", "bench")


def main() -> None:
    run = Run(parse())
    for name in PARTS:
        if name not in run.arguments.without:
            run.part(name, getattr(run, name))
    run.write()


class Run:
    """One run in one work folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.work: Path = arguments.work
        self.source: Path = arguments.checkpoint or self.work / "checkpoint"
        self.model, self.ir = self.work / "model", self.work / "notebook"
        self.work.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, object] = {}

    def part(self, name: str, measure) -> None:
        """Takes the part's result, or makes it."""
        path = self.work / f"{name}.json"
        if path.exists():
            print(f"== {name}: there already ({path})", flush=True)
        else:
            print(f"== {name}", flush=True)
            result = measure()
            if result is None:
                return
            part = path.with_suffix(".part")
            part.write_text(json.dumps(result, indent=2) + "\n")
            part.replace(path)
        self.results[name] = json.loads(path.read_text())

    # ------------------------------------------------------------------------------------------------------ the parts

    def checkpoint(self) -> dict:
        if self.arguments.checkpoint is None and not self.source.exists():
            words = ["synthesize", "--like", LIKE, "--output", self.source, "--dtype", "f16"]
            for flag in ("layers", "text_layers"):
                if (count := getattr(self.arguments, flag)) is not None:
                    words += [f"--{flag.replace('_', '-')}", count]
            measured = self.pixart(*words)
        else:
            measured = {}
        return measured | {"bytes": folder_bytes(self.source)}

    def convert(self) -> dict:
        """With the time that the disk takes to copy the largest shard, just before."""
        shards = sorted(self.source.glob("*/*.safetensors"), key=lambda path: path.stat().st_size)
        copied = copy_speed(shards[-1], self.work / "copied.part")
        measured = self.pixart(
            "convert", self.source, "--output", self.model, "--text-encoder-weights", "int8", "--weights", "f16"
        )
        speed = folder_bytes(self.source) / measured["seconds"]
        return measured | {
            "source_bytes": folder_bytes(self.source),
            "model_bytes": folder_bytes(self.model),
            "bytes_per_second": speed,
            "copy_bytes_per_second": copied,
            "share_of_copy_speed": speed / copied,
        }

    def bench(self) -> dict:
        return self.report("--sizes", self.arguments.size, "--repeat", self.arguments.pairs)

    def on_demand(self) -> dict | None:
        """The same with a text encoder that is loaded when it is needed, where this binary has that setting."""
        told = subprocess.run([self.arguments.pixart, "bench", "--help"], capture_output=True, text=True, check=True).stdout
        if "--text-encoder " not in told:
            return None
        return self.report("--sizes", self.arguments.size, "--repeat", 1, "--no-peak", *ON_DEMAND)

    def sizes(self) -> dict:
        """All in one process, without the text encoder beside them: the largest takes most of 24 GB."""
        most = 2 * max(map(int, self.arguments.size.split("x")))
        sizes = [size for size in SIZES if max(map(int, size.split("x"))) <= most]
        return self.report("--sizes", ",".join(sizes), "--steps", 1, "--repeat", 1, "--no-peak", *ON_DEMAND)

    def start(self) -> dict:
        return self.report("--start=none,size,speed", "--sizes", self.arguments.size, "--repeat", self.arguments.pairs)

    def trace(self) -> dict | None:
        if self.arguments.python is None:
            print("left out: --python names no environment of benches/notebook/requirements.txt")
            return None
        width, height = self.arguments.size.split("x")
        command = [self.arguments.python, NOTEBOOK / "trace.py", self.source, self.ir]
        measured = watched([*command, "--width", width, "--height", height])
        return measured | {"bytes": folder_bytes(self.ir)}

    def against(self) -> dict | None:
        if self.arguments.python is None:
            return None
        width, height = self.arguments.size.split("x")
        path = self.work / "against.made"
        command = [self.arguments.python, NOTEBOOK / "against.py", "--pixart", self.arguments.pixart]
        command += ["--model", self.model, "--ir", self.ir, "--checkpoint", self.source, "--prompt", PROMPT]
        command += ["--json", path]
        watched([*command, "--width", width, "--height", height, "--pairs", self.arguments.pairs])
        return json.loads(path.read_text())

    # ------------------------------------------------------------------------------------------------------- commands

    def pixart(self, *words: object) -> dict:
        return watched([self.arguments.pixart, *words])

    def report(self, *words: object) -> dict:
        path = self.work / "report.made"
        self.pixart("bench", "--model", self.model, "--prompt", PROMPT, "--json", path, *words)
        return json.loads(path.read_text())

    # ------------------------------------------------------------------------------------------------------ the result

    def write(self) -> None:
        machine = self.results["bench"]["machine"]
        today = datetime.date.today().isoformat()
        processor = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
        name = f"{today}-{processor}"
        # A trial with fewer layers is no result.
        trial = self.arguments.layers is not None or self.arguments.text_layers is not None
        folder = self.work if trial else ROOT / "benches/results"
        folder.mkdir(parents=True, exist_ok=True)
        whole = {"date": today, "layers": self.arguments.layers, "text_layers": self.arguments.text_layers}
        whole |= {"size": self.arguments.size} | self.results
        (folder / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
        if "sizes" in whole:
            (folder / f"{name}.svg").write_text(plot(whole["sizes"]["cases"]))
        (folder / f"{name}.md").write_text(words_of(whole, name))
        print(f"written: {folder / name}.json and what is made of it")


def watched(command: list[object]) -> dict:
    """Runs a command whose words go where ours go. Returns its seconds and the peak of its anonymous memory."""
    command = [str(word) for word in command]
    print("$", " ".join(command), flush=True)
    start = time.monotonic()
    process = subprocess.Popen(command, env=os.environ | NOW)
    peak = [0]

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
            except OSError:
                return
            peak[0] = max(peak[0], 1024 * int(found.group(1)) if found else 0)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    watcher.join()
    if code != 0:
        raise SystemExit(f"{command[0]} {command[1]} ended with {code}")
    return {"seconds": time.monotonic() - start, "peak_anonymous_bytes": peak[0]}


def copy_speed(source: Path, target: Path) -> float:
    """Bytes a second of a copy that is on the disk when it ends; of 4 GiB at most."""
    start, copied = time.monotonic(), 0
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            while copied < COPY_BYTES and (block := reader.read(8 << 20)):
                writer.write(block)
                copied += len(block)
            writer.flush()
            os.fsync(writer.fileno())
        return copied / (time.monotonic() - start)
    finally:
        target.unlink(missing_ok=True)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def words_of(whole: dict, name: str) -> str:
    """The result as Markdown."""
    bench, machine = whole["bench"], whole["bench"]["machine"]
    case = bench["cases"][0]
    convert = whole["convert"]
    lines = [
        f"# {machine['cpu']}, {whole['date']}",
        "",
        f"{machine['cores']} cores, {gib(machine['memory_bytes'] or 0)} of memory; pixart {bench['pixart']}, OpenVINO "
        f"{bench['openvino']}, {bench['precision']} on {bench['device']}. Weights {bench['weights']}, generated, of the published "
        "shapes. `make bench-full` made this page.",
        "",
        "## Conversion",
        "",
        f"{convert['source_bytes'] / 1e9:.1f} GB into {convert['model_bytes'] / 1e9:.1f} GB in {convert['seconds']:.1f} s: "
        f"{100 * convert['share_of_copy_speed']:.0f} % of the disk's own copy speed ({convert['copy_bytes_per_second'] / 1e6:.0f} MB/s); "
        f"peak anonymous memory {convert['peak_anonymous_bytes'] / 1e6:.0f} MB.",
        "",
        f"## One picture of {case['size']}, {case['steps']} steps, {case['tokens'][0]} tokens",
        "",
        f"Matmul peak of this machine: {(bench['matmul_flops_per_second'] or 0) / 1e9:.0f} GFLOP/s. Loaded in "
        f"{bench['load_seconds']:.1f} s. Peak memory: loading {memory(bench['load_memory'])}; drawing {memory(case['memory'])}. "
        f"The stages' sum is {100 * case['stage_sum_share']:.1f} % of the whole.",
        "",
        "| stage | median | min – max | MAD | n | GFLOP/s | of peak |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for stage in [*case["stages"], case["step"], case["whole"]]:
        speed = "" if stage["flops_per_second"] is None else f"{stage['flops_per_second'] / 1e9:.0f}"
        share = "" if stage["peak_share"] is None else f"{100 * stage['peak_share']:.0f} %"
        lines.append(
            f"| {stage['name']} | {stage['median']:.3f} s | {stage['min']:.3f} – {stage['max']:.3f} s | {stage['mad']:.3f} s "
            f"| {stage['n']} | {speed} | {share} |"
        )
    if "on_demand" in whole:
        demand = whole["on_demand"]["cases"][0]
        loading = statistics.median(demand["text_encoder_load_seconds"])
        lines += ["", f"With the text encoder on demand, released before the first step: peak memory {memory(demand['memory'])}; a new prompt "
                  f"takes {demand['stages'][1]['median']:.2f} s, {loading:.2f} s of it for loading the encoder, the whole picture "
                  f"{demand['whole']['median']:.2f} s."]
    if "sizes" in whole:
        lines += sizes_of(whole["sizes"], name)
    if "start" in whole:
        lines += starts_of(whole["start"])
    if "against" in whole:
        lines += ["", "## Against the notebook's way", ""]
        # What the other script prints is made from its JSON by itself.
        sys.path.insert(0, str(NOTEBOOK))
        from words import table

        lines.append(table(whole["against"]))
    if missing := [part for part in PARTS if part not in whole]:
        lines += ["", f"Not measured in this run: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def sizes_of(sizes: dict, name: str) -> list[str]:
    lines = ["", "## Sizes", "", f"One step, the text encoder on demand; [the plot]({name}.svg).", ""]
    lines += ["| size | TFLOP | whole | anonymous memory |", "|---|--:|--:|--:|"]
    for size in sizes["cases"]:
        peak = (size["memory"] or {}).get("anonymous_bytes", 0)
        lines.append(
            f"| {size['size']} | {size['whole']['flops'] / 1e12:.2f} | {size['whole']['median']:.2f} s | {gib(peak)} |"
        )
    return lines


def starts_of(start: dict) -> list[str]:
    lines = ["", "## Start", "", "| cache | first | process to ready | to the first picture | in the cache |", "|---|--:|--:|--:|--:|"]
    for kind in start["kinds"]:
        lines.append(
            f"| {kind['cache']} | {kind['first']['ready_seconds']:.2f} s | {kind['ready']['median']:.2f} s "
            f"| {kind['first_picture']['median']:.2f} s | {kind['cache_bytes'] / 1e6:.1f} MB |"
        )
    return lines


def plot(cases: list[dict]) -> str:
    """Seconds and anonymous memory over FLOPs, all logarithmic, as SVG; straight lines of slope 1 would be proportional."""
    from math import log10

    flops = [case["whole"]["flops"] for case in cases]
    rows = [
        ("seconds", "#1f6feb", [case["whole"]["median"] for case in cases]),
        ("GiB anonymous", "#c2410c", [(case["memory"] or {}).get("anonymous_bytes", 0) / 2**30 for case in cases]),
    ]
    low, high = log10(min(flops)), log10(max(flops)) + 1e-9
    values = [value for _, _, row in rows for value in row if value > 0]
    bottom, top = log10(min(values)), log10(max(values)) + 1e-9

    def x(value: float) -> float:
        return 60 + 520 * (log10(value) - low) / (high - low)

    def y(value: float) -> float:
        return 330 - 300 * (log10(value) - bottom) / (top - bottom)

    marks = []
    for index, (name, colour, row) in enumerate(rows):
        points = sorted((f, v) for f, v in zip(flops, row) if v > 0)
        path = " ".join(f"{x(f):.1f},{y(v):.1f}" for f, v in points)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        marks += [f'<circle cx="{x(f):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>' for f, v in points]
        marks += [f'<text x="{x(f):.1f}" y="{y(v) - 7:.1f}" text-anchor="middle" fill="{colour}">{v:.2g}</text>' for f, v in points]
        marks.append(f'<text x="70" y="{20 + 15 * index}" fill="{colour}">{name}</text>')
    for case in cases:
        f = case["whole"]["flops"]
        marks.append(f'<text transform="translate({x(f):.1f} 345) rotate(25)">{case["size"]}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 410" font-family="sans-serif" font-size="11">'
        '<rect width="660" height="410" fill="#fff"/><path d="M60 20V330H580" fill="none" stroke="#888"/>'
        + "".join(marks)
        + "</svg>\n"
    )


def memory(peak: dict | None) -> str:
    if peak is None:
        return "unknown"
    return f"{gib(peak['anonymous_bytes'])} anonymous, {gib(peak['file_backed_bytes'])} file-backed"


def gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixart", type=Path, required=True, help="the binary, optimised")
    parser.add_argument("--work", type=Path, required=True, help="where everything is made and kept")
    parser.add_argument("--checkpoint", type=Path, help="a diffusers directory to take instead of making one")
    parser.add_argument("--python", type=Path, help="interpreter of an environment with benches/notebook/requirements.txt")
    parser.add_argument("--layers", type=int, help="blocks of the transformer, for a trial [28]")
    parser.add_argument("--text-layers", type=int, help="layers of the text encoder, for a trial [24]")
    parser.add_argument("--size", default="1024x1024", help="pixels")
    parser.add_argument("--pairs", type=int, default=4, help="pictures, starts and pairs that count")
    parser.add_argument("--without", nargs="+", default=[], metavar="PART", choices=[part for part in PARTS if part not in NEEDED],
                        help="parts to leave out, which the page then says")
    return parser.parse_args()


if __name__ == "__main__":
    main()
