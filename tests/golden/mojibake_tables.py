"""Prints src/pipeline/caption/mojibake_tables.rs from the installed ftfy (6.3.1); pipe it through rustfmt --edition 2024."""

import inspect
import re

from ftfy import badness, chardata

HEAD = """\
//! Tables of ftfy's mojibake heuristic: code pages, and the classes of characters that misread UTF-8 is made of.
//!
//! Data, not code. Source: ftfy 6.3.1 (Robyn Speer, Apache-2.0) `badness.py`, `chardata.py` and its sloppy codecs, printed by
//! `tests/golden/mojibake_tables.py` from the installed package; `tests/golden/captions.rs` holds the result to the reference.

/// A single-byte encoding that UTF-8 may have been misread as: characters of bytes 0x80 to 0xFF.
pub(super) struct CodePage {
    pub(super) upper: &'static str,
    /// ftfy's "sloppy" variant: byte 0x1A stands for U+FFFD, and lost bytes are looked for.
    pub(super) is_sloppy: bool,
    pub(super) is_macroman: bool,
}

/// Index of windows-1252 in [`CODE_PAGES`].
pub(super) const WINDOWS_1252: usize = 1;
"""

CLUES = {
    "utf8_first_of_2": "First of two bytes",
    "utf8_first_of_3": "First of three bytes",
    "utf8_first_of_4": "First of four bytes",
    "utf8_continuation": "A later byte, or the space that stands for 0xA0",
    "utf8_continuation_strict": "A later byte that seldom stands for itself",
}


def is_unseen(code):
    ranges = [(0, 0x1F), (0x7F, 0xA0), (0xAD, 0xAD), (0x300, 0x36F), (0x200B, 0x200F), (0x2028, 0x202E), (0xE000, 0xF8FF)]
    return code == 0xFFFD or any(low <= code <= high for low, high in ranges)


def literal(text):
    return "".join(
        "\\" + char if char in '"\\' else f"\\u{{{ord(char):x}}}" if is_unseen(ord(char)) else char for char in text
    )


def alternatives():
    """BADNESS_RE's template without its comments and white space, with Python's classes spelled out for Rust's regex."""
    source = inspect.getsource(badness)
    template = source.split('BADNESS_RE = re.compile(\n    r"""')[1].split('"""')[0]
    found, now, in_class = [], "", False
    for token in re.findall(r"\\.|#[^\n]*|.", template, re.DOTALL):
        if in_class:
            in_class = token != "]"
            now += r"\x20" if token == " " else token
        elif token == "|":
            found.append(now)
            now = ""
        elif not token.startswith("#") and not token.isspace():
            in_class = token == "["
            now += {r"\s": r"[\s\x1c-\x1f]", r"\w": r"[\p{L}\p{N}_]", "^": r"\A"}.get(token, token)
    return [alternative for alternative in [*found, now] if alternative]


print(HEAD)
print("/// In the order in which ftfy tries them (`CHARMAP_ENCODINGS`).")
print(f"pub(super) const CODE_PAGES: [CodePage; {len(chardata.CHARMAP_ENCODINGS)}] = [")
for name in chardata.CHARMAP_ENCODINGS:
    upper = literal(bytes(range(128, 256)).decode(name))
    flags = f"is_sloppy: {str(name.startswith('sloppy')).lower()}, is_macroman: {str(name == 'macroman').lower()}"
    print(f'// {name.removeprefix("sloppy-")}\nCodePage {{ upper: "{upper}", {flags} }},')
print("];\n")
print("/// Classes of [`BADNESS`] by name, as the inside of a regex class (`MOJIBAKE_CATEGORIES`).")
print(f"pub(super) const CATEGORIES: [(&str, &str); {len(badness.MOJIBAKE_CATEGORIES)}] = [")
for name, members in badness.MOJIBAKE_CATEGORIES.items():
    print(f'("{{{name}}}", "{literal(members)}"),')
print("];\n")
print("/// Unlikely neighbours: text that matches one of these is probably mojibake (`BADNESS_RE`). Python's `\\s` and `\\w` are spelled out.")
print(f"pub(super) const BADNESS: [&str; {len(alternatives())}] = [")
for alternative in alternatives():
    print(f'r"{alternative}",')
print("];\n")
for name, doc in CLUES.items():
    pattern = re.compile(f"[{chardata.UTF8_CLUES[name]}]")
    members = "".join(chr(code) for code in range(0x110000) if pattern.match(chr(code)))
    print(f"/// {doc}, as any of the code pages shows it.")
    print(f'pub(super) const {name.upper().removeprefix("UTF8_")}: &str = "{literal(members)}";\n')
