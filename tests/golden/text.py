"""Fixtures of the way from a prompt to token ids: preprocessing, caption cleaning, tokens.

The strings themselves are in `strings.py`.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import PixArtAlphaPipeline
from transformers import T5Tokenizer

import strings
from added_tokens import make_added_tokens
from cases import ROOT, SKETCHBOOK
from storage import write_json_lines

MAX_LENGTH = 120


def make_text(out: Path) -> None:
    """`tokens.jsonl`, `tokens_special.jsonl`, `added_tokens.json`, `captions.jsonl`, `preprocess.jsonl`."""
    make_added_tokens(out)
    tokenizer = T5Tokenizer.from_pretrained(ROOT / SKETCHBOOK / "tokenizer")

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, max_length=MAX_LENGTH, truncation=True, add_special_tokens=True).input_ids

    token_texts = strings.token_texts()
    for text in token_texts:
        if any(literal in text for literal in ("</s>", "<pad>", "<unk>", "\0")):
            raise ValueError(f"{text!r} has a special token in it")
    write_json_lines(out / "tokens.jsonl", ({"text": text, "ids": ids_of(text)} for text in token_texts))
    special_texts = strings.special_token_texts()
    write_json_lines(out / "tokens_special.jsonl", ({"text": text, "ids": ids_of(text)} for text in special_texts))

    # The methods read nothing of the pipeline but its class attributes, so it need not be built.
    pipeline = PixArtAlphaPipeline.__new__(PixArtAlphaPipeline)

    def preprocessed(text: str, clean_caption: bool) -> dict[str, str]:
        return {"text": text, "cleaned": pipeline._text_preprocessing(text, clean_caption=clean_caption)[0]}

    write_json_lines(out / "captions.jsonl", (preprocessed(text, True) for text in strings.caption_texts()))
    write_json_lines(out / "preprocess.jsonl", (preprocessed(text, False) for text in strings.preprocess_texts()))
