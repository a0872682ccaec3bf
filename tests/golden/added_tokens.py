"""`added_tokens.json`: what transformers' `T5Tokenizer` makes of checkpoints that add tokens to their tokenizer.

Each case is the sketchbook tokenizer with files put beside it, and strings with their ids. Run by itself, with the transformers,
tokenizers and sentencepiece of `requirements.txt`; torch is not needed for this one:

    python tests/golden/added_tokens.py
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from transformers import T5Tokenizer

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "models/sketchbook/tokenizer"


def token(content: str, **flags: bool) -> dict:
    plain = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False, "special": False}
    return {"content": content, **plain, **flags}


# Files by name; an object for tokenizer_config.json is laid over sketchbook's own.
CASES = (
    {"added_tokens.json": {"<my-style>": 489}},
    # Numbers of no meaning beyond their order, as older tools left them.
    {"added_tokens.json": {"<b>": 4150, "<my-style>": 4149, "red": 3}},
    {"added_tokens.json": {"<my-style>": 600}, "tokenizer_config.json": {"extra_ids": 100, "additional_special_tokens": None}},
    {"added_tokens.json": {"ﬁx": 489, "É": 490}},
    # A prefix of another; overlaps.
    {"added_tokens.json": {"<a": 489, "<a>": 490, "a> b": 491, "sun": 492, "sunset": 493}},
    {
        "tokenizer_config.json": {
            "added_tokens_decoder": {
                "489": token("<left>", lstrip=True),
                "490": token("<right>", rstrip=True, normalized=False),
                "491": token("<both>", lstrip=True, rstrip=True, normalized=False, special=True),
                "492": token("word", single_word=True),
                "493": token("ｗｉｄｅ", normalized=False),
                "494": token("ﬂat", normalized=True),
            }
        },
        "added_tokens.json": {"<ignored>": 489},
    },
    {"tokenizer_config.json": {"additional_special_tokens": ["<my-style>", "<b>"]}},
    {"tokenizer_config.json": {"extra_special_tokens": ["<my-style>"]}, "added_tokens.json": {"<b>": 489}},
    {"special_tokens_map.json": {"extra_special_tokens": ["<my-style>"], "eos_token": "</s>"}},
    {"special_tokens_map.json": {"additional_special_tokens": ["<b>"]}, "added_tokens.json": {"<my-style>": 490, "<b>": 489}},
    {"tokenizer_config.json": {"style_token": "<my-style>"}},
    {"tokenizer_config.json": {"bos_token": "<begin>"}, "added_tokens.json": {"<my-style>": 489}},
)

TEXTS = (
    "", " ", "a <my-style> cat", "a<my-style>cat", "<my-style>", " <my-style> ", "<my-style><my-style>", "<my-style> <b>",
    "<b> and <my-style>,<b>", "<My-style>", "a red cat", "reddish", "red", "ared red", "fix a ﬁx", "é É e\u0301 E\u0301",
    "<a <a> b", "<a> b", "a> b", "sunset sun", "sunsets", "a <left> cat", "a  <left>cat <left>", "a <right>  cat", "<right>",
    "a  <both>  cat", "<both> <both>", "\t<both>\n", "a\u00a0<both>\u3000b", "<left> <right> <both>", "word", "a word.", "words",
    "sword word-word", "ｗｉｄｅ wide", "a ｗｉｄｅ", "ﬂat flat", "<ignored>", "🌵<my-style>🌵", "日本<my-style>語", "▁<my-style>▁",
    "a cat <my-style> " * 60,
)  # fmt: skip


def lines_of(files: dict[str, dict]) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        for path in TOKENIZER.iterdir():
            shutil.copy(path, folder)
        for name, content in files.items():
            path = Path(folder) / name
            if name == "tokenizer_config.json":
                content = json.loads(path.read_text()) | content
            path.write_text(json.dumps(content))
        tokenizer = T5Tokenizer.from_pretrained(folder)
        return [{"text": text, "ids": tokenizer(text, max_length=120, truncation=True).input_ids} for text in TEXTS]


def make_added_tokens(out: Path) -> None:
    """`added_tokens.json`."""
    config = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    cases = []
    for files in CASES:
        lines = lines_of(files)
        # As the files lie there, so that nobody has to lay them over each other.
        laid = {name: config | content if name == "tokenizer_config.json" else content for name, content in files.items()}
        cases.append({"files": laid, "lines": lines})
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":")).replace('{"files"', '\n{"files"')
    (out / "added_tokens.json").write_text(text + "\n")


if __name__ == "__main__":
    make_added_tokens(Path(__file__).parent)
