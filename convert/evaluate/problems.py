"""What is wrong with labels, collected, so that a user sees more than the first mistake."""

from runtime.errors import UserError
from runtime.terminal import printable

MOST_TOLD = 20


class Problems:
    """Places in label files and what is wrong there."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: str, what: str) -> None:
        """place: a file, with the line or entry in it."""
        self._count += 1
        if self._count <= MOST_TOLD:
            self._told.append(printable(f"{place}: {what}"))

    def __str__(self) -> str:
        first = f", the first {MOST_TOLD}" if self._count > MOST_TOLD else ""
        plural = "label is" if self._count == 1 else "labels are"
        return f"{self._count} {plural} bad{first}: {'; '.join(self._told)}"

    def raise_any(self, advice: str = "mend them") -> None:
        """Raises UserError that names the first of them, where there are any."""
        if self._count:
            raise UserError(f"{self}; {advice}")
