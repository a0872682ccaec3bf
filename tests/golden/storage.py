"""How fixtures are written: safetensors with text metadata, JSON, and JSON lines.

Everything here is deterministic: same tensors and same parameters give the same bytes, so that a checksum says
whether a reference changed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

STORED_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, object]) -> None:
    """Writes f32, i64 and u8 tensors with `parameters` as the file's `__metadata__` (text to text).

    Written here rather than by the safetensors package because that one orders the metadata by a random hash, so
    that no two of its files are equal.
    """
    header: dict[str, object] = {"__metadata__": {key: str(parameters[key]) for key in sorted(parameters)}}
    chunks, offset = [], 0
    # The widest type first, so that every tensor lies at a multiple of its element size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in STORED_DTYPES:
            raise TypeError(f"{name}: a fixture holds f32, i64 and u8 only, not {tensor.dtype}")
        data = tensor.numpy().tobytes()
        header[name] = {
            "dtype": STORED_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(chunks))


def write_json(path: Path, content: object) -> None:
    """Writes one JSON document, a list of records one record a line so that a diff stays readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in content)
        text = f"[\n{lines}\n]\n"
    else:
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def write_json_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Writes one JSON object a line. Non-ASCII text is escaped: control and direction marks stay visible in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="ascii")


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
