"""A bundle's manifest: the decode facts, how the model was built, what its files are."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from anchors.plain_yaml import load_plain
from runtime.cost import Costs
from runtime.errors import UserError
from runtime.facts import (
    CUSTOM_STRING_LIMIT,
    PARTS,
    Activation,
    Facts,
    HeadFacts,
    InputFacts,
    Outputs,
    Stem,
    Strict,
    explain,
    sha256_of,
)

__all__ = [  # with what a manifest begins with, for whoever reads one
    "CUSTOM_STRING_LIMIT",
    "PARTS",
    "Activation",
    "Agreement",
    "Algorithm",
    "CalibrationFacts",
    "Facts",
    "FileFacts",
    "HeadAgreement",
    "HeadFacts",
    "InputFacts",
    "Manifest",
    "Outputs",
    "Precision",
    "Proof",
    "SourceFacts",
    "Stem",
    "Target",
    "Thresholds",
    "sha256_of",
]

Precision = Literal["int8", "fp16"]
Target = Literal["rk3588", "rk3576", "rk3566", "rk3568", "rk3562"]
Algorithm = Literal["normal", "kl_divergence", "mmse"]

_Unit = Annotated[float, Field(ge=0, le=1)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_TensorName = Annotated[str, Field(min_length=1)]
_FileName = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=255)]


class Thresholds(Strict):
    """What counts as a detection.

    score: a detection's objectness, and then its objectness times class score, is above it.
    iou: of two boxes of one class that overlap by more, the one with the lower score goes.
    max_detections: the highest scores kept of a picture.
    class_score: thresholds for single classes, by name, in place of score.
    classes: names of the only classes wanted; None for all.
    multi_label: every class above the threshold for a box, as accuracy is measured, instead of the
        best class only.
    """

    score: _Unit = 0.25
    iou: _Unit = 0.45
    max_detections: int = Field(default=300, gt=0)
    class_score: dict[str, _Unit] = Field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    multi_label: bool = False


class FileFacts(Strict):
    sha256: _Sha256
    size: int = Field(ge=0)


class SourceFacts(Strict):
    """The model file the bundle was made from."""

    file: str
    sha256: _Sha256
    looks_like: str


class CalibrationFacts(Strict):
    """The pictures the ranges were measured on; digest is over their pixels as
    the model was fed them."""

    pictures: int = Field(gt=0)
    digest: _Sha256


class HeadAgreement(Strict):
    output: str
    cosine: float
    worst_group: Literal["box", "objectness", "class"]
    worst_cosine: float


class Agreement(Strict):
    """How far the built model's detections, on the simulator, are the float model's.

    f1: of detections matched at IoU 0.5 and the same class. score_shift: mean of built minus float
    over the matches. Thresholds are the manifest's.
    """

    pictures: int
    float_detections: int
    built_detections: int
    matched: int
    f1: float
    mean_iou: float | None
    score_shift: float | None
    heads: tuple[HeadAgreement, ...]


class Proof(Strict):
    """That the bundle's graph and rkyolo's decode give what the user's own ONNX gives.

    compared: boxes where that ONNX decodes, else its head maps; largest_px, largest_value: the
    largest differences of box corners in input pixels, and of scores or map values.
    """

    compared: Literal["boxes", "head maps"]
    count: int
    largest_px: float | None
    largest_value: float


class Manifest(Facts):
    """manifest.yaml of a bundle: the decode facts, how the model was built, what the files are.

    hybrid: tensors of an int8 model that stay in float16, by the toolkit's names.
    """

    schema_version: Literal[1] = 1
    thresholds: Thresholds = Thresholds()
    precision: Precision
    target: Target
    algorithm: Algorithm | None
    hybrid: tuple[_TensorName, ...] = ()
    source: SourceFacts
    calibration: CalibrationFacts | None
    tools: dict[str, str]
    proof: Proof | None = None
    agreement: Agreement
    cost: Costs | None = None
    warnings: tuple[str, ...] = ()
    files: dict[_FileName, FileFacts]

    @model_validator(mode="after")
    def _check_hybrid(self) -> "Manifest":
        if self.hybrid and self.precision != "int8":
            raise ValueError(f"an {self.precision} model has no tensors that stay in float16")
        return self

    @classmethod
    def from_yaml(cls, text: str, origin: Path) -> "Manifest":
        """A manifest from its text. Raises UserError that lists every problem with its key."""
        try:
            return cls.model_validate(load_plain(text))
        except ValidationError as error:
            raise UserError(f"{origin}: {explain(error)}") from error
        except ValueError as error:
            raise UserError(f"{origin} is no manifest: {error}") from error

    def to_yaml(self) -> str:
        plain = self.model_dump(mode="json")
        if not self.hybrid:  # as it was before there were any
            del plain["hybrid"]
        readable = r"\x85" not in repr(plain)  # a line break that PyYAML would write and not read
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=readable, width=100)
