"""What the models of the configuration share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.manifest import Thresholds

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Of a source, sink or board: it stands in topics, file names and web addresses."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """Part of a configuration: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ThresholdOptions(Options):
    """Thresholds to use in place of the bundle's; what is left out stays as it is there."""

    score: Fraction | None = None
    iou: Fraction | None = None
    max_detections: int | None = Field(default=None, gt=0)
    class_score: dict[str, Fraction] = Field(
        default_factory=dict, description="score thresholds of single classes, by name"
    )
    classes: tuple[str, ...] | None = Field(default=None, description="the only classes wanted")

    def over(self, thresholds: Thresholds) -> Thresholds:
        """The thresholds with these in place of theirs."""
        given = self.model_dump(exclude_none=True)
        given["class_score"] = thresholds.class_score | self.class_score
        return thresholds.model_copy(update=given)


class Region(Options):
    """The part of the picture to look at, in fractions of its width and height."""

    x: Fraction = 0
    y: Fraction = 0
    width: Fraction = 1
    height: Fraction = 1

    @model_validator(mode="after")
    def _inside(self) -> "Region":
        if self.width == 0 or self.height == 0:
            raise ValueError("a region needs a width and a height above 0")
        if self.x + self.width > 1 + 1e-9 or self.y + self.height > 1 + 1e-9:
            raise ValueError("the region reaches beyond the picture: x + width and y + height <= 1")
        return self

    def pixels(self, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2) in a picture of that size, at least one pixel each way."""
        w, h = size_wh
        x1, y1 = min(round(self.x * w), w - 1), min(round(self.y * h), h - 1)
        x2, y2 = round((self.x + self.width) * w), round((self.y + self.height) * h)
        return x1, y1, min(max(x2, x1 + 1), w), min(max(y2, y1 + 1), h)
