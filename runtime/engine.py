"""From a configuration's model and engine to a pool of contexts."""

from runtime.backends import Opener, choose_backend, cores_of
from runtime.config import Config, EngineOptions
from runtime.decode import Decoder
from runtime.errors import UserError
from runtime.model import Model
from runtime.pipeline.pool import Pool, Recipe, open_contexts


def recipes(config: Config, model: Model) -> dict[str, Recipe]:
    """What to look for in each source: the bundle's thresholds, the configuration's over them, and
    the source's own over those. Raises UserError for classes the model does not have."""
    general = config.thresholds.over(model.thresholds)
    found = {}
    for source in config.sources:
        thresholds = source.thresholds.over(general)
        try:
            decoder = Decoder(model.facts, thresholds)
        except UserError as error:
            raise UserError(f"thresholds of source {source.name}: {error}") from error
        found[source.name] = Recipe(decoder, thresholds, source.region)
    return found


def open_pool(config: Config, model: Model) -> Pool:
    """Contexts for the model, as many on each core as configured. Raises UserError."""
    engine = config.engine
    found = recipes(config, model)
    contexts = open_contexts(
        Opener(engine.backend, model), _cores(engine, model), engine.contexts_per_core
    )
    return Pool(contexts, model.facts, found, engine.cpus)


def _cores(engine: EngineOptions, model: Model) -> tuple[int | None, ...]:
    there = cores_of(engine.backend, model)
    if engine.cores is None or there == (None,):
        return there
    missing = set(engine.cores) - set(there)
    if missing:
        raise UserError(
            f"engine.cores: the {model.target} has no NPU core {', '.join(map(str, missing))};"
            f" it has {', '.join(map(str, there))}"
        )
    return engine.cores


def describe(config: Config, model: Model) -> dict[str, object]:
    """Plain data about the model and what runs it."""
    manifest = model.manifest
    return {
        "path": str(model.path),
        "target": model.target,
        "precision": manifest.precision if manifest else None,
        "toolkit": model.toolkit,
        "classes": list(model.facts.class_names),
        "input_wh": list(model.facts.input.wh),
        "backend": choose_backend(config.engine.backend, model),
    }
