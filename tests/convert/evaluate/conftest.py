"""Small labelled sets."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

NAMES = ("circle", "square", "triangle", "star", "cross")


class LabelledFolder:
    """images/val, labels/val and data.yaml in a folder, written piece by piece."""

    def __init__(self, root: Path):
        self.root = root
        self.yaml = root / "data.yaml"
        self.write_yaml(val="images/val", names=list(NAMES))

    def write_yaml(self, **content: object) -> None:
        self.yaml.parent.mkdir(parents=True, exist_ok=True)
        self.yaml.write_text(yaml.safe_dump(content), "utf-8")

    def add(self, name: str, labels: str | bytes | None = None, split: str = "val") -> Path:
        """A picture of 40 x 20, and its label file where there is one."""
        file = self.root / "images" / split / name
        file.parent.mkdir(parents=True, exist_ok=True)
        bgr = np.full((20, 40, 3), 90, np.uint8)
        file.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        if labels is not None:
            target = self.root / "labels" / split / f"{file.stem}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(labels if isinstance(labels, bytes) else labels.encode())
        return file


@pytest.fixture
def folder(tmp_path) -> LabelledFolder:
    return LabelledFolder(tmp_path / "set")


@pytest.fixture
def demo_yaml(tmp_path, data) -> Path:
    """The demo's validation set."""
    path = tmp_path / "demo.yaml"
    plain = {"path": str(data / "demo" / "val"), "val": "images", "nc": 5, "names": list(NAMES)}
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.fixture
def few_yaml(tmp_path, data) -> Path:
    """Eight pictures of it."""
    images = data / "demo" / "val" / "images"
    (tmp_path / "few.txt").write_text("".join(f"{images}/{i:03}.jpg\n" for i in range(8)))
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump({"val": "few.txt", "names": dict(enumerate(NAMES))}))
    return path
