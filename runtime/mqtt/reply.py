"""What boards answer, and the count of it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator


@dataclass(frozen=True)
class Answer:
    """What a picture's answer is. name: the file's, or "picture N" counted from 0. board: who
    answered. plain: the whole answer as plain data, empty where error says why there is none."""

    name: str
    board: str | None = None
    plain: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Tally:
    """What happened so far. duplicates: answers that were dropped, since the picture had one, or
    had been given up. boards: pictures answered, by board."""

    pictures: int = 0
    answers: int = 0
    failed: int = 0
    resends: int = 0
    duplicates: int = 0
    boards: Counter[str] = field(default_factory=Counter)


class _Reply(BaseModel):
    """What an answer must have, to be one of a board."""

    class Detection(BaseModel):
        name: str

    board: str
    error: str | None = None
    width: int | None = None
    height: int | None = None
    detections: list[Detection] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "_Reply":
        if self.error is None and None in (self.width, self.height, self.detections):
            raise ValueError("neither detections nor an error")
        return self


def read_answer(name: str, payload: bytes) -> Answer:
    """The answer in a message. What no board would send is one too, with an error."""
    try:
        reply = _Reply.model_validate_json(payload)
    except ValidationError:
        return Answer(name, error="what came for an answer is none")
    if reply.error is not None:
        return Answer(name, reply.board, error=reply.error)
    return Answer(name, reply.board, json.loads(payload))
