"""What a model costs in both precisions: of a bundle as it says, of a model file by building it."""

from pathlib import Path
from typing import get_args

from convert.export import export
from convert.options import Options
from convert.progress import Steps
from convert.quantize import Toolkit
from convert.simulator import RANGES
from convert.source import read_source
from runtime.cost import Costs
from runtime.errors import UserError
from runtime.manifest import Activation, Precision, Stem, Target
from runtime.model import Model, open_bundle


def beside(toolkit: Toolkit, graph: bytes) -> Costs:
    """What the toolkit has built of a graph, and the graph in the other precision; None for what
    the compiler did not say, or could not build."""
    found = {toolkit.options.precision: toolkit.cost}
    for precision in {*get_args(Precision)} - found.keys():
        try:
            found[precision] = toolkit.cost_in(precision, graph)
        except UserError:  # the model itself is built, and the log says the rest
            found[precision] = None
    return Costs(**found)


def unknown(costs: Costs) -> list[str]:
    """A warning for each precision whose cost is not known."""
    return [
        f"the toolkit's log has no cost table that can be read for {precision}"
        for precision in get_args(Precision)
        if getattr(costs, precision) is None
    ]


def estimate(
    path: Path,
    steps: Steps,
    wh: tuple[int, int] | None = None,
    anchors: str | None = None,
    activation: Activation | None = None,
    target: Target | None = None,
    stem: Stem | None = None,
) -> tuple[Costs, Target, tuple[str, ...]]:
    """The costs of a bundle, a .pt or an .onnx, the chip they are for, and the tensors of the int8
    one that stay in float16.

    A bundle of an older rkyolo, which does not say them, is built again from its graph. For a model
    file activation is sigmoid by default, target rk3588; int8 is calibrated on noise, which changes
    neither cycles nor sizes. Raises UserError, also where neither cost is known.
    """
    if path.is_dir():
        if anchors is not None:
            raise UserError(f"{path} holds its own anchors: leave --anchors out")
        return _of_bundle(path, steps, wh, activation, target, stem)
    if path.suffix.lower() == ".rknn":
        raise UserError(f"{path} does not say its cost: give its bundle, or the .pt or .onnx")
    source = read_source(path, wh, anchors)
    facts, graph = export(source, activation or "sigmoid", simplify=True, stem=stem or "none")
    chip = target or "rk3588"
    return _built(path, steps, Model(path, facts, onnx=graph), chip), chip, ()


def _of_bundle(
    path: Path,
    steps: Steps,
    wh: tuple[int, int] | None,
    activation: Activation | None,
    target: Target | None,
    stem: Stem | None,
) -> tuple[Costs, Target, tuple[str, ...]]:
    model = open_bundle(path)
    manifest = model.manifest
    for asked, built in (
        (wh, manifest.input.wh),
        (activation, manifest.activation),
        (target, manifest.target),
        (stem, manifest.input.stem),
    ):
        if asked not in (None, built):
            shown = "x".join(map(str, built[::-1])) if isinstance(built, tuple) else built
            raise UserError(
                f"{path} was built for {shown}: leave the option out, or give the model it was"
                " made from"
            )
    costs = manifest.cost
    if costs is None or unknown(costs):
        costs = _built(path, steps, model, manifest.target)
    return costs, manifest.target, manifest.hybrid


def _built(path: Path, steps: Steps, model: Model, target: Target) -> Costs:
    """Both precisions, built one after the other."""
    hybrid = model.manifest.hybrid if model.manifest else ()
    if hybrid and RANGES not in model.extra:
        raise UserError(f"{path} has no {RANGES}: convert it again")
    found = {}
    with Toolkit(model.facts, Options(target)) as toolkit:
        for precision in get_args(Precision):
            with steps.step(f"Build {precision} for {target}"):
                if hybrid and precision == "int8":
                    cost = toolkit.hybrid_cost(model.onnx, model.extra[RANGES], hybrid)
                else:
                    cost = toolkit.cost_in(precision, model.onnx)
            found[precision] = cost
    costs = Costs(**found)
    if len(unknown(costs)) == len(get_args(Precision)):
        raise UserError(
            f"the toolkit built {path}, but its log has no cost table that can be read; this"
            " version of it may print another one"
        )
    return costs
