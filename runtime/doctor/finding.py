"""What a check says: a state, a sentence, and the way to mend it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "fault", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One check's outcome. unknown: it could not be looked at, which is no fault.

    what: what is the case, with its value. fix: what to do, None where nothing is to be done.
    """

    check: str
    state: State
    what: str
    fix: str | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)
