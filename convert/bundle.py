"""From a checkpoint to a bundle: export, calibrate, quantize, compare, and write what passed."""

import os
import shutil
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from convert import calibrate
from convert.calibrate import Loaded, PictureSet, Sample, printable
from convert.checking import calibration_warnings, check_built, objectness_peak
from convert.compare import Comparison
from convert.export import export
from convert.progress import Steps
from convert.quantize import PACKAGE, Options, Toolkit
from convert.report import REPORT, Verdict, judge, write_report
from convert.simulator import RANGES
from convert.source import Source, read_source
from runtime import __version__
from runtime.errors import CheckFailedError, UserError
from runtime.files import whole_folder
from runtime.manifest import (
    Activation,
    Facts,
    FileFacts,
    Manifest,
    SourceFacts,
    sha256_of,
)
from runtime.model import MANIFEST, ONNX, RKNN

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

    source: Source
    facts: Facts
    graph: bytes
    rknn: bytes
    ranges: bytes | None


@dataclass(frozen=True, eq=False)
class _Findings:
    """What was found out about it."""

    verdict: Verdict
    comparison: Comparison
    calibrated: Loaded | None
    checked: Loaded
    log: str


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
        facts = source.facts(request.activation)
    with Toolkit(facts, request.options) as toolkit:
        with steps.step("Export ONNX"):
            facts, graph = export(source, request.activation, simplify=True)
        calibrated = _load_calibration(calibration, facts, steps)
        checked = calibrate.load(check, facts.input)
        proof = source.prove(facts, graph, checked.inputs[0][None])
        name = f"Build {request.options.precision} for {request.options.target} with {PACKAGE}"
        with steps.step(name):
            rknn = toolkit.build(graph, calibrated and calibrated.inputs)
            ranges = toolkit.ranges() if calibrated else None
            toolkit.start_simulator()
        built = _Built(source, facts, graph, rknn, ranges)
        comparison, peak = check_built(facts, graph, toolkit, checked, steps)
        if calibrated and request.check:
            sample = calibrate.spread(calibrated.inputs, CHECK_PICTURES)
            peak = objectness_peak(facts, graph, sample)
        warnings = list(calibration_warnings(facts, toolkit, calibrated, checked, peak))
        log = toolkit.log()
    pictures = calibrated and len(calibrated.inputs)
    verdict = judge(
        comparison, request.least_f1, request.options, request.activation, pictures, warnings
    )
    verdict = replace(verdict, proof=proof)
    findings = _Findings(verdict, comparison, calibrated, checked, log)
    if not verdict.passed:
        _write_failure(request, findings)
    return Outcome(request.out, verdict, _write_bundle(request, built, findings))


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


def _write_failure(request: Request, findings: _Findings) -> NoReturn:
    folder = failure_folder(request.out)
    with whole_folder(folder) as partial:
        text = _write_report(partial, request, findings)
    raise CheckFailedError(f"{text}\nno bundle was written; this report is in {folder}")


def _write_report(folder: Path, request: Request, findings: _Findings) -> str:
    (folder / "toolkit.log").write_text(findings.log, "utf-8")
    options = request.options
    built = f"{options.precision} for {options.target}"
    title = f"{printable(request.model.name)}: float against built, {built}"
    return write_report(
        folder, title, findings.verdict, findings.comparison, findings.checked.samples
    )


def _write_bundle(request: Request, built: _Built, findings: _Findings) -> str:
    """Write the bundle, and give its report's text."""
    failed, options = failure_folder(request.out), request.options
    with whole_folder(request.out) as partial:
        (partial / ONNX).write_bytes(built.graph)
        (partial / RKNN).write_bytes(built.rknn)
        if built.ranges is not None:
            (partial / RANGES).parent.mkdir()
            (partial / RANGES).write_bytes(built.ranges)
        text = _write_report(partial, request, findings)
        manifest = Manifest(
            **built.facts.model_dump(),
            precision=options.precision,
            target=options.target,
            algorithm=options.algorithm if findings.calibrated else None,
            source=SourceFacts(
                file=printable(request.model.name),
                sha256=built.source.sha256,
                looks_like=built.source.looks_like,
            ),
            calibration=findings.calibrated and findings.calibrated.facts(),
            tools=_tools(),
            proof=findings.verdict.proof,
            agreement=findings.verdict.agreement,
            warnings=findings.verdict.warnings,
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
