"""What is true of a model: the facts its outputs are decoded with, and a bundle's manifest."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anchors import Anchors
from anchors.plain_yaml import load_plain
from runtime.cost import Costs
from runtime.errors import UserError
from runtime.letterbox import PAD_VALUE

CUSTOM_STRING_LIMIT = 1024
"""The vendor's toolkit takes a custom string below this many bytes."""

_MOST_PLACES = 2**24
"""Anchors times cells, over all heads: as many as strides 8, 16 and 32 have at 16384x16384. The
decode takes memory for each."""

PARTS = {"box": slice(0, 4), "objectness": slice(4, 5), "class": slice(5, None)}
"""Channels of an anchor, by what they mean."""

Activation = Literal["none", "sigmoid"]
Stem = Literal["none", "space-to-depth"]
Outputs = Literal["one", "split"]
Precision = Literal["int8", "fp16"]
Target = Literal["rk3588", "rk3576", "rk3566", "rk3568", "rk3562"]
Algorithm = Literal["normal", "kl_divergence", "mmse"]

_Unit = Annotated[float, Field(ge=0, le=1)]
_Pixels = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_FileName = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFacts(_Strict):
    """The picture a model takes: width x height pixels, uint8, RGB, or grey for 1 channel.

    stem: what becomes of the letterboxed picture before it is fed. Nothing, or with space-to-depth
    every 2 x 2 pixels become one of four times the channels, see runtime.feed.
    """

    width: int = Field(gt=0, le=16384)
    height: int = Field(gt=0, le=16384)
    channels: Literal[1, 3] = 3
    layout: Literal["NHWC"] = "NHWC"
    pad_value: Literal[114] = PAD_VALUE
    stem: Stem = "none"

    @model_validator(mode="after")
    def _check(self) -> "InputFacts":
        if self.stem != "none" and (self.width % 2 or self.height % 2):
            raise ValueError(f"{self.width}x{self.height} cannot be folded by twos")
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(1, h, w, c) of what the model is fed: the picture, or the folded picture."""
        if self.stem == "none":
            return 1, self.height, self.width, self.channels
        return 1, self.height // 2, self.width // 2, 4 * self.channels

    @property
    def wh(self) -> tuple[int, int]:
        return self.width, self.height


class HeadFacts(_Strict):
    """One head: its tensor's name, of split ones what their names begin with; its stride, its
    anchors in input pixels."""

    output: str = Field(min_length=1)
    stride: int = Field(gt=0)
    anchors_px: tuple[tuple[_Pixels, _Pixels], ...] = Field(min_length=1)


class Facts(_Strict):
    """What decoding a model's outputs needs, and nothing else. Heads stand in output order.

    outputs: one tensor a head, or three, split as PARTS says.
    class_names is the list of names, or, where there was no room for them, their number.
    """

    task: Literal["detect"] = "detect"
    input: InputFacts
    heads: tuple[HeadFacts, ...] = Field(min_length=1)
    activation: Activation
    outputs: Outputs = "one"
    class_names: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Facts":
        self.anchors  # noqa: B018  # raises where heads are out of order
        width, height = self.input.wh
        for stride in (head.stride for head in self.heads):
            if width % stride or height % stride:
                raise ValueError(f"input {width}x{height} is no multiple of stride {stride}")
        places = sum(len(h.anchors_px) * (width * height // h.stride**2) for h in self.heads)
        if places > _MOST_PLACES:
            raise ValueError(f"{places} places to look at are more than {_MOST_PLACES}")
        return self

    @property
    def anchors(self) -> Anchors:
        return Anchors.from_pairs(
            [head.stride for head in self.heads], [head.anchors_px for head in self.heads]
        )

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def head_shape(self, index: int) -> tuple[int, int, int, int]:
        """(1, na * (5 + nc), ny, nx) of one head, its parts together."""
        head = self.heads[index]
        channels = len(head.anchors_px) * (5 + self.classes)
        return 1, channels, self.input.height // head.stride, self.input.width // head.stride

    def tensors_of(self, index: int) -> list[tuple[str, tuple[int, int, int, int]]]:
        """Name and shape of each of one head's outputs, in order; channels are anchor-major."""
        head, shape = self.heads[index], self.head_shape(index)
        if self.outputs == "one":
            return [(head.output, shape)]
        each = [len(range(5 + self.classes)[part]) for part in PARTS.values()]
        return [
            (f"{head.output}_{name}", (1, n * len(head.anchors_px), *shape[2:]))
            for name, n in zip(PARTS, each, strict=True)
        ]

    @property
    def tensors(self) -> list[tuple[str, tuple[int, int, int, int]]]:
        """Name and shape of every output, in order."""
        return [tensor for i in range(len(self.heads)) for tensor in self.tensors_of(i)]

    def to_json(self) -> str:
        """The facts as compact ASCII JSON, names always included."""
        return _compact(self._plain())

    def to_custom_string(self) -> str:
        """The facts as JSON for the .rknn file: names, or their count and digest if too long.

        Raises UserError where not even the anchors fit.
        """
        whole = self.to_json()
        if len(whole) < CUSTOM_STRING_LIMIT:
            return whole
        short = _compact(self._without_names())
        if len(short) >= CUSTOM_STRING_LIMIT:
            raise UserError(
                f"the model's {len(self.heads)} heads have too many anchors to fit into the .rknn "
                f"file's custom string ({len(short)} bytes, the limit is {CUSTOM_STRING_LIMIT - 1})"
            )
        return short

    @classmethod
    def from_json(cls, text: str, origin: str) -> "Facts":
        """Facts from either form of JSON; missing names become class0, class1, ...

        origin names the place in errors. Raises UserError.
        """
        try:
            plain = json.loads(text)
            if plain.pop("rkyolo") != 1:
                raise UserError(f"{origin} was written by a newer rkyolo: update this one")
            names = plain.get("class_names")
            if isinstance(names, dict):
                count = names["count"]
                if not (isinstance(count, int) and 0 < count <= 65536):
                    raise ValueError("bad class count")
                plain["class_names"] = [f"class{i}" for i in range(count)]
            return cls.model_validate(plain)
        except ValidationError as error:
            raise UserError(f"{origin}: {_explain(error)}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{origin} holds no decode facts of rkyolo") from error

    def agrees_with(self, custom_string: str, origin: str) -> bool:
        """Whether a custom string says the same as these facts, names by name or by digest. Raises
        UserError where it says no facts at all."""
        Facts.from_json(custom_string, origin)
        return json.loads(custom_string) in (self._plain(), self._without_names())

    def _plain(self) -> dict[str, Any]:
        fields = set(Facts.model_fields)
        if self.outputs == "one":  # as it was before there was another form
            fields.remove("outputs")
        return {"rkyolo": 1} | self.model_dump(mode="json", include=fields)

    def _without_names(self) -> dict[str, Any]:
        digest = sha256_of(_compact(self.class_names).encode())[:16]
        return self._plain() | {"class_names": {"count": self.classes, "sha256": digest}}


class Thresholds(_Strict):
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


class FileFacts(_Strict):
    sha256: _Sha256
    size: int = Field(ge=0)


class SourceFacts(_Strict):
    """The model file the bundle was made from."""

    file: str
    sha256: _Sha256
    looks_like: str


class CalibrationFacts(_Strict):
    """The pictures the ranges were measured on; digest is over their pixels as
    the model was fed them."""

    pictures: int = Field(gt=0)
    digest: _Sha256


class HeadAgreement(_Strict):
    output: str
    cosine: float
    worst_group: Literal["box", "objectness", "class"]
    worst_cosine: float


class Agreement(_Strict):
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


class Proof(_Strict):
    """That the bundle's graph and rkyolo's decode give what the user's own ONNX gives.

    compared: boxes where that ONNX decodes, else its head maps; largest_px, largest_value: the
    largest differences of box corners in input pixels, and of scores or map values.
    """

    compared: Literal["boxes", "head maps"]
    count: int
    largest_px: float | None
    largest_value: float


class Manifest(Facts):
    """manifest.yaml of a bundle: the decode facts, how the model was built, what the files are."""

    schema_version: Literal[1] = 1
    thresholds: Thresholds = Thresholds()
    precision: Precision
    target: Target
    algorithm: Algorithm | None
    source: SourceFacts
    calibration: CalibrationFacts | None
    tools: dict[str, str]
    proof: Proof | None = None
    agreement: Agreement
    cost: Costs | None = None
    warnings: tuple[str, ...] = ()
    files: dict[_FileName, FileFacts]

    @classmethod
    def from_yaml(cls, text: str, origin: Path) -> "Manifest":
        """A manifest from its text. Raises UserError that lists every problem with its key."""
        try:
            return cls.model_validate(load_plain(text))
        except ValidationError as error:
            raise UserError(f"{origin}: {_explain(error)}") from error
        except ValueError as error:
            raise UserError(f"{origin} is no manifest: {error}") from error

    def to_yaml(self) -> str:
        plain = self.model_dump(mode="json")
        readable = r"\x85" not in repr(plain)  # a line break that PyYAML would write and not read
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=readable, width=100)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compact(plain: Any) -> str:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=True)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'content'}: {item['msg']}"
        for item in error.errors()
    )
