"""What decoding a model's outputs needs to know, as a manifest and a .rknn file say it."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anchors import Anchors
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

_Pixels = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Data that does not change, without keys that are not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFacts(Strict):
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


class HeadFacts(Strict):
    """One head: its tensor's name, of split ones what their names begin with; its stride, its
    anchors in input pixels."""

    output: str = Field(min_length=1)
    stride: int = Field(gt=0)
    anchors_px: tuple[tuple[_Pixels, _Pixels], ...] = Field(min_length=1)


class Facts(Strict):
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
        _ = self.anchors  # raises where heads are out of order
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
            raise UserError(f"{origin}: {explain(error)}") from error
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


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _compact(plain: Any) -> str:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=True)


def explain(error: ValidationError) -> str:
    """All that is wrong, each with its key."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'content'}: {item['msg']}"
        for item in error.errors()
    )
