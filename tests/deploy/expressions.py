"""PromQL as text, as far as the checks look into it: names, selectors, ranges, and conditions taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w:$.])([a-zA-Z_:][a-zA-Z0-9_:]*)(?![\w:]|\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_PARTS = ("_bucket", "_sum", "_count")
_SET = re.compile(r"\s(?:and|or|unless)\s+(?:(?:on|ignoring)\s*\([^)]*\))?")
_COMPARISON = re.compile(r"\s(?:==|!=|<=|>=|<|>)\s")
_FILTER = re.compile(r"\s(?:==|!=|<=|>=|<|>)\s+[0-9.e]+")


def metrics(expression: str) -> set[str]:
    """The names of the series that an expression reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", _STRING.sub('""', expression))
    return {name for name in _NAME.findall(_GROUPING.sub(" ", bare)) if name.lower() not in _WORDS}


def family(series: str, families: set[str]) -> str | None:
    """The family that a series belongs to: its own name, or that of its histogram."""
    candidates = [series, *(series.removesuffix(part) for part in _PARTS)]
    return next((name for name in candidates if name in families), None)


def selectors(expression: str) -> list[tuple[str, str]]:
    """Each `name{matchers}` of an expression, as name and matchers."""
    return _SELECTOR.findall(expression)


def ranges(expression: str) -> set[str]:
    """What stands in the square brackets of an expression."""
    return set(re.findall(r"\[([^\]:]+)", _STRING.sub('""', expression)))


def filled_in(expression: str, variables: Mapping[str, str]) -> str:
    """The expression as Grafana sends it."""
    for name, value in variables.items():
        expression = expression.replace(f"${name}", value)
    if "$" in expression:
        raise ValueError(f"a variable that nobody fills in: {expression}")
    return expression


def without_filters(expression: str) -> str:
    """The expression without its comparisons to numbers, which leave nothing over while all is well."""
    return _FILTER.sub("", expression)


def operands(condition: str) -> Iterator[str]:
    """What a condition compares: all that must be known for it to be able to become true. Numbers are left out."""
    condition = condition.strip()
    while condition.startswith("(") and _closes(condition) == len(condition) - 1:
        condition = condition[1:-1].strip()
    if condition.startswith("absent(") and _closes(condition, len("absent")) == len(condition) - 1:
        condition = condition[len("absent(") : -1]
    parts = _split(condition, _SET)
    if len(parts) == 1:
        parts = _split(condition, _COMPARISON)
    if len(parts) > 1:
        for part in parts:
            yield from operands(part)
    elif metrics(condition):
        yield without_filters(condition)


def _closes(text: str, at: int = 0) -> int:
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for place in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"a bracket that does not close: {text}")


def _split(text: str, operator: re.Pattern[str]) -> list[str]:
    """The text between operators that stand in no bracket."""
    parts, start = [], 0
    for match in operator.finditer(text):
        before = text[: match.start()]
        if before.count("(") == before.count(")") and before.count("{") == before.count("}"):
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]
