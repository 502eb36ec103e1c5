"""From a checkpoint to a bundle: export, calibrate, quantize, compare, and write what passed."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from convert import calibrate
from convert.calibrate import Loaded, PictureSet, Sample
from convert.checking import (
    check_built,
    float_confidence,
    picture_warnings,
    range_warnings,
)
from convert.compare import Comparison
from convert.confidence import Confidence, foreign_warnings
from convert.estimate import beside, unknown
from convert.export import export
from convert.options import Options
from convert.progress import Steps
from convert.quantize import PACKAGE, Toolkit
from convert.report import REPORT, Conversion, Verdict, judge, write_report
from convert.simulator import RANGES
from convert.source import Source, chosen_facts, read_source
from runtime import __version__
from runtime.errors import CheckFailedError, UserError
from runtime.files import whole_folder
from runtime.manifest import (
    Activation,
    Facts,
    FileFacts,
    Manifest,
    Outputs,
    SourceFacts,
    Stem,
    sha256_of,
)
from runtime.model import MANIFEST, ONNX, RKNN
from runtime.terminal import printable

CHECK_PICTURES = 20
"""How many of the calibration pictures are checked where no others are given."""
_TOOLS = (PACKAGE, "onnx", "onnxsim", "onnxruntime", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Request:
    """What to convert, and how. calibration may be None for fp16 where check is given."""

    model: Path
    out: Path
    calibration: Path | None
    check: Path | None = None
    wh: tuple[int, int] | None = None
    anchors: str | None = None
    activation: Activation = "sigmoid"
    stem: Stem = "none"
    outputs: Outputs = "one"
    options: Options = field(default_factory=Options)
    least_f1: float = 0.9


@dataclass(frozen=True)
class Outcome:
    """A bundle that was written, the verdict on it, and the report as text."""

    bundle: Path
    verdict: Verdict
    report: str


@dataclass(frozen=True, eq=False)
class _Built:
    """What was built."""

    graph: bytes
    rknn: bytes
    ranges: bytes | None


def convert(request: Request, steps: Steps) -> Outcome:
    """Convert, compare, and write the bundle.

    Raises UserError for bad input, before the long work wherever that can be told. Raises
    CheckFailedError where the built model agrees too little with the float one: then there is no
    bundle, what was under its name stays, and the report and pictures lie in a folder beside it.
    """
    _check_out(request.out)
    calibration, check = _find_pictures(request)
    with steps.step(f"Read {printable(request.model.name)}"):
        source = read_source(request.model, request.wh, request.anchors)
        facts = chosen_facts(source, request.activation, request.stem, request.outputs)
    with Toolkit(facts, request.options) as toolkit:
        with steps.step("Export ONNX"):
            facts, graph = export(source, request.activation, True, request.stem, request.outputs)
        calibrated = _load_calibration(calibration, facts, steps)
        checked = calibrate.load(check, facts.input)
        proof = source.prove(facts, graph, checked.inputs[0][None])
        with steps.step(f"Build {_form(request)} with {PACKAGE}"):
            rknn = toolkit.build(graph, calibrated and calibrated.inputs)
            ranges = toolkit.ranges() if calibrated else None
            toolkit.start_simulator()
        comparison, sure = check_built(facts, graph, toolkit, checked, steps)
        with steps.step("Estimate the cost"):
            costs = beside(toolkit, graph)
        log = toolkit.log()
    warnings = [
        *picture_warnings(calibrated, checked),
        *_foreign_warnings(request, facts, graph, calibrated, sure),
        *range_warnings(facts, toolkit, comparison),
        *unknown(costs),
    ]
    verdict = replace(_judge(request, comparison, calibrated, warnings), proof=proof)
    found = Conversion(
        source=_source_facts(request, source),
        facts=facts,
        options=request.options,
        hybrid=toolkit.hybrid,
        verdict=verdict,
        comparison=comparison,
        samples=checked.samples,
        ranges={name: toolkit.output_range(name) for name, _ in facts.tensors},
        calibration=calibrated and calibrated.facts(),
        costs=costs,
        tools=_tools(),
        log=log,
    )
    if not verdict.passed:
        _write_failure(request, found)
    return Outcome(request.out, verdict, _write_bundle(request, _Built(graph, rknn, ranges), found))


def failure_folder(out: Path) -> Path:
    """Where the report of a conversion that did not pass is left."""
    return out.with_name(f"{out.name}.failed")


def _check_out(out: Path) -> None:
    """Nothing but a bundle, or a report of an earlier failure, is ever replaced."""
    if out.name in ("", ".."):
        raise UserError(f"-o {out} is no name for a new folder: give one, like models/mine")
    _check_replaceable(out, {MANIFEST, RKNN}, "bundle")
    _check_replaceable(failure_folder(out), {REPORT}, "report of rkyolo")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"cannot write {out}: {there} is no folder one may write to")


def _check_replaceable(folder: Path, holds: set[str], kind: str) -> None:
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not folder.is_dir() or (found and not holds <= found):
        raise UserError(f"{folder} exists and is no {kind}: give another -o, or move it away")


def _find_pictures(request: Request) -> tuple[PictureSet | None, list[Sample]]:
    """The calibration set, None for fp16, and the samples to check."""
    quantized = request.options.precision == "int8"
    if request.calibration is None and (quantized or request.check is None):
        wanted = "--calibration" if quantized else "--calibration or --check"
        raise UserError(f"{wanted} is needed: a folder, list, data.yaml or video of your pictures")
    found = calibrate.find_samples(request.calibration) if request.calibration else None
    if request.check:
        check = list(calibrate.find_samples(request.check).samples)
    else:
        check = calibrate.spread(found.samples, CHECK_PICTURES)
    return (found if quantized else None), check


def _load_calibration(found: PictureSet | None, facts: Facts, steps: Steps) -> Loaded | None:
    if found is None:
        return None
    text = f"Letterbox {len(found.samples)} of {found.available} calibration pictures"
    return calibrate.load(found.samples, facts.input, lambda items: steps.track(items, text))


def _form(request: Request) -> str:
    return f"{request.options.precision} for {request.options.target}"


def _foreign_warnings(
    request: Request, facts: Facts, graph: bytes, calibrated: Loaded | None, check: Confidence
) -> Iterable[str]:
    """check: how sure the float graph is on the check pictures, which are some of the calibration
    pictures where no others were given."""
    if calibrated is None:
        return ()
    if request.check is None:
        return foreign_warnings(check, None)
    return foreign_warnings(float_confidence(facts, graph, calibrated, CHECK_PICTURES), check)


def _judge(
    request: Request, comparison: Comparison, calibrated: Loaded | None, warnings: list[str]
) -> Verdict:
    pictures = calibrated and len(calibrated.inputs)
    return judge(
        comparison, request.least_f1, request.options, request.activation, pictures, warnings
    )


def _source_facts(request: Request, source: Source) -> SourceFacts:
    return SourceFacts(
        file=printable(request.model.name), sha256=source.sha256, looks_like=source.looks_like
    )


def _write_failure(request: Request, found: Conversion) -> NoReturn:
    folder = failure_folder(request.out)
    with whole_folder(folder) as partial:
        text = _write_report(partial, found)
    raise CheckFailedError(f"{text}\nno bundle was written; this report is in {folder}")


def _write_report(folder: Path, found: Conversion) -> str:
    (folder / "toolkit.log").write_text(found.log, "utf-8")
    return write_report(folder, found)


def _write_bundle(request: Request, built: _Built, found: Conversion) -> str:
    """Write the bundle, and give its report's text."""
    failed, options = failure_folder(request.out), request.options
    with whole_folder(request.out) as partial:
        (partial / ONNX).write_bytes(built.graph)
        (partial / RKNN).write_bytes(built.rknn)
        if built.ranges is not None:
            (partial / RANGES).parent.mkdir()
            (partial / RANGES).write_bytes(built.ranges)
        text = _write_report(partial, found)
        manifest = Manifest(
            **found.facts.model_dump(),
            precision=options.precision,
            target=options.target,
            algorithm=options.algorithm if found.calibration else None,
            hybrid=found.hybrid,
            source=found.source,
            calibration=found.calibration,
            tools=dict(found.tools),
            proof=found.verdict.proof,
            agreement=found.verdict.agreement,
            cost=found.costs,
            warnings=found.verdict.warnings,
            files=_file_facts(partial),
        )
        (partial / MANIFEST).write_text(manifest.to_yaml(), "utf-8")
    if (failed / REPORT).exists():  # of an earlier try, and out of date
        shutil.rmtree(failed)
    return text


def _tools() -> dict[str, str]:
    """The versions of what made the bundle."""
    found = {"rkyolo": __version__}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # installed under another name, as OpenCV often is
            continue
    return found


def _file_facts(folder: Path) -> dict[str, FileFacts]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {
        name: FileFacts(sha256=sha256_of(data), size=len(data)) for name, data in content.items()
    }
