"""What a conversion or an evaluation found: as text, as pictures, and as one page."""

from convert.report.pictures import WORST_PICTURES, side_by_side
from convert.report.text import as_text, proof_line
from convert.report.verdict import Verdict, judge
from convert.report.write import PAGE, REPORT, Conversion, write_report

__all__ = [
    "PAGE",
    "REPORT",
    "WORST_PICTURES",
    "Conversion",
    "Verdict",
    "as_text",
    "judge",
    "proof_line",
    "side_by_side",
    "write_report",
]
