"""How many classes a graph has, and what they are called."""

import ast
from pathlib import Path

from anchors import Anchors
from convert.heads.probe import Block, HeadMap
from runtime.errors import UserError
from runtime.manifest import Facts


def class_count(
    heads: tuple[HeadMap, ...], blocks: list[Block], anchors: Anchors | None, path: Path
) -> int | None:
    """nc, from the outputs' rows, or from channels and anchors; None where neither tells."""
    counts = {block.each - 5 for block in blocks if block.each}
    if anchors:
        for head, wanted in zip(heads, anchors.heads, strict=True):
            each, rest = divmod(head.shape[1], len(wanted.wh_px))
            counts.add(-1 if rest else each - 5)
    if len(counts) > 1 or min(counts, default=1) < 1:
        channels = ", ".join(str(head.shape[1]) for head in heads)
        raise UserError(
            f"{path} has heads of {channels} channels, which the anchors do not divide into"
            " (5 + classes) each: they belong to another model"
        )
    return counts.pop() if counts else None


def class_names(
    own: Facts | None,
    metadata: dict[str, str],
    given: tuple[str, ...] | None,
    classes: int | None,
    blocks: list[Block],
    path: Path,
) -> tuple[str, ...] | None:
    """The names, by whoever says as many as there are classes. Raises UserError where the file's
    own, of which no output tells the number, are not as many."""
    if classes is None:
        return None
    in_file = _names_in(metadata)
    if in_file and len(in_file) != classes and not any(block.each for block in blocks):
        raise UserError(
            f"{path} has heads for {classes} classes with these anchors, and names {len(in_file)}:"
            " they belong to another model"
        )
    for names in (own.class_names if own else None, in_file, given):
        if names and len(names) == classes:
            return names
        if names and names is given:
            raise UserError(f"{path} has {classes} classes, and --anchors names {len(names)}")
    return tuple(f"class{i}" for i in range(classes))


def _names_in(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """Names that export.py keeps in the file, as the text of a list or a dict."""
    text = metadata.get("names", "")
    try:
        names = ast.literal_eval(text) if len(text) < 1_000_000 else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(names, dict):
        names = [names.get(i) for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(shown(name) for name in names)


def shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
