"""A comparison as a Markdown table."""

from __future__ import annotations

import statistics


def table(report: dict) -> str:
    lines = ["| what | pixart | notebook | ratio, pair by pair | median |", "|---|--:|--:|---|--:|"]

    def row(what: str, result: dict) -> None:
        ours, theirs = (statistics.median(result[f"{side}_seconds"]) for side in ("pixart", "notebook"))
        pairs = " ".join(f"{pair:.2f}" for pair in result["pairs"])
        lines.append(f"| {what} | {ours:.3f} s | {theirs:.3f} s | {pairs} | {result['median']:.2f}× |")

    for stage in report.get("stages", []):
        tokens = f", {stage['tokens']} tokens against {stage['padded_tokens']}" if "tokens" in stage else ""
        row(stage["stage"] + tokens, stage)
    if "start" in report:
        row("process to ready", report["start"]["process_to_ready"])
        row("process to ready against load and compile alone", report["start"]["ready_by_compile_alone"])
    if "pictures" in report:
        drawn = report["pictures"]
        for name, found in drawn.get("variants", {"": drawn}).items():
            row(f"whole picture, {report['steps']} steps{f', {name}' if name else ''}", found)
    for stage in report.get("stages", []):
        apart = stage["difference"]
        verdict = "within rounding" if apart["within_rounding"] else "**beyond rounding**"
        lines += ["", f"{stage['stage']}: relative RMS difference {apart['relative_rms']:.2e}, "
                  f"cosine {apart['cosine']:.7f}: {verdict}"]
    return "\n".join(lines)
