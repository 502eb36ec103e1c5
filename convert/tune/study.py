"""What all trials of a search have in common."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from convert import bundle
from convert.evaluate import job
from convert.evaluate.dataset import Dataset
from convert.options import Options
from convert.progress import Steps
from convert.quantize import toolkit_version
from convert.tune.space import Trial
from runtime.manifest import Target, sha256_of
from runtime.model import read_file


@dataclass(frozen=True)
class Study:
    """The model, the pictures and what the user asked for. Plain data that goes to workers, which
    find all its files in the same places.

    lists: the folder of the lists of pictures, see convert.tune.pictures. data: the labelled
    pictures, of which at most most are taken, evenly spread; None without labels.
    """

    model: Path
    lists: Path
    wh: tuple[int, int] | None = None
    anchors: str | None = None
    target: Target = "rk3588"
    least_f1: float = 0.9
    data: job.Request | None = None
    most: int = 200

    def request(self, trial: Trial, out: Path) -> bundle.Request:
        """The conversion that a trial is."""
        return bundle.Request(
            model=self.model,
            out=out,
            calibration=self.lists / f"{trial.calibration}.txt",
            check=self.lists / "check.txt",
            wh=self.wh,
            anchors=self.anchors,
            activation=trial.activation,
            stem=trial.stem,
            outputs=trial.heads,
            options=Options(
                self.target,
                "int8",
                trial.algorithm,
                hybrid_layers=trial.hybrid_layers,
                auto_hybrid=trial.auto_hybrid,
            ),
            least_f1=self.least_f1,
        )

    def dataset(self, names: Sequence[str]) -> Dataset:
        """The labelled pictures trials are measured on. Raises UserError."""
        whole = job.read_dataset(self.data, names, Steps(quiet=True))
        chosen = spread_places(len(whole.files), self.most)
        return replace(
            whole,
            files=tuple(whole.files[i] for i in chosen),
            labels=tuple(whole.labels[i] for i in chosen),
            image_ids=tuple(whole.image_ids[i] for i in chosen),
        )


def spread_places(count: int, most: int) -> list[int]:
    """At most so many places of a sequence, evenly spaced."""
    taken = min(count, most)
    return [i * count // taken for i in range(taken)]


def digest(
    study: Study, model_sha256: str, dataset: Dataset | None, pictures: Iterable[Path]
) -> str:
    """A name for the study, the same wherever and whenever all it depends on is: the model, every
    picture and label, and the tools. 12 hexadecimal digits. Raises UserError."""
    said = {
        "model": model_sha256,
        "wh": study.wh,
        "anchors": study.anchors and _content(study.anchors),
        "target": study.target,
        "least_f1": study.least_f1,
        "tools": [toolkit_version(), version("onnx"), version("numpy")],
    }
    whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in pictures:
        whole.update(hashlib.sha256(read_file(file)).digest())
        whole.update(b"picture")
    for file, labels in zip(dataset.files, dataset.labels, strict=True) if dataset else ():
        whole.update(hashlib.sha256(read_file(file)).digest())
        for array in (labels.class_id, labels.xyxy, labels.crowd):
            whole.update(b"labels" + array.tobytes())
    return whole.hexdigest()[:12]


def _content(anchors: str) -> str:
    """Of a file its hash, of a preset its name."""
    path = Path(anchors)
    return sha256_of(read_file(path)) if path.is_file() else anchors
