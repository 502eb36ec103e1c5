"""Read YAML that strangers wrote: plain data, and nothing that makes little text into much."""

from typing import Any

import yaml


def load_plain(text: str) -> Any:
    """The dicts, lists and scalars of a YAML text. Raises ValueError, in one line, for anything
    that is not YAML, for aliases and tags, which plain data needs none of, and for deep nesting."""
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or date that is none
        raise ValueError(f"it is not plain YAML: {' '.join(str(error).split())}") from error


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if event.anchor or getattr(event, "tag", None):
            raise yaml.composer.ComposerError(
                None, None, "aliases and tags have no place here", event.start_mark
            )
        return super().compose_node(parent, index)
