"""Write what a conversion found into a folder."""

from pathlib import Path

import cv2

from convert.cost import as_text as cost_text
from convert.report.conversion import Conversion, page
from convert.report.pictures import worst
from convert.report.text import as_text

REPORT = "report.txt"
PAGE = "report.html"


def write_report(folder: Path, found: Conversion) -> str:
    """Write the report as text and as a page, and the pictures that agree least, into a folder; the
    text."""
    pictures = worst(found.comparison, found.samples)
    (folder / "pictures").mkdir()
    for picture in pictures:
        if picture.bgr is not None:
            data = cv2.imencode(".png", picture.bgr)[1].tobytes()
            (folder / picture.path).write_bytes(data)
    named = [(picture.path, picture.found) for picture in pictures]
    cost = cost_text(found.costs, found.options.target, found.hybrid)
    text = as_text(found.title, found.verdict, named, cost)
    (folder / REPORT).write_text(text, "utf-8")
    (folder / PAGE).write_text(page(found, pictures), "utf-8")
    return text
