"""Run trials on workers, those that are not finished yet, and keep what comes of each."""

from collections.abc import Sequence
from time import monotonic

from convert.progress import Steps
from convert.tune.outcome import Outcome
from convert.tune.pareto import front
from convert.tune.space import Trial
from convert.tune.store import Store
from convert.tune.study import Study
from convert.tune.trial import Task, run_trial
from convert.workers import Done, Workers
from runtime.errors import UserError
from runtime.model import MANIFEST


class Runner:
    """Gives outcomes for trials, out of the store or from workers; see search.Run. Bundles that no
    longer can win are removed. It begins no trial after the time until, in monotonic seconds.
    found_finished: how many trials came out of the store."""

    def __init__(
        self,
        study: Study,
        store: Store,
        workers: Workers,
        steps: Steps,
        until: float | None = None,
        retry_failed: bool = False,
    ):
        self._study, self._store, self._workers, self._steps = study, store, workers, steps
        self._until = until
        self._retry_failed = retry_failed
        self._outcomes: dict[Trial | None, Outcome] = {}
        self.found_finished = 0

    def __call__(self, trials: Sequence[Trial | None]) -> list[Outcome | None]:
        for trial in trials:
            self._look_up(trial)
        todo = [trial for trial in trials if trial not in self._outcomes]
        self._run(todo)
        self._drop_bundles()
        return [self._outcomes.get(trial) for trial in trials]

    def bundle_again(self, trial: Trial) -> None:
        """Run a finished trial once more for its bundle, which was removed in an earlier search."""
        self._outcomes.pop(trial, None)
        self._until = None
        self._run([trial])

    def _look_up(self, trial: Trial | None) -> None:
        outcome = None if trial in self._outcomes else self._store.find(trial)
        if outcome and not (outcome.failed and self._retry_failed):
            self._outcomes[trial] = outcome
            self.found_finished += trial is not None

    def _run(self, todo: Sequence[Trial | None]) -> None:
        tasks = [
            Task(self._study, trial, trial and self._store.bundle(trial).absolute())
            for trial in todo
        ]
        shown = {}

        def began(place: int) -> None:
            shown[place] = self._steps.step(self._title(todo[place]))
            shown[place].__enter__()

        for done in self._workers.each(run_trial, tasks, self._has_time, began):
            self._keep(todo[done.place], done)
            shown.pop(done.place).__exit__(None, None, None)

    def _title(self, trial: Trial | None) -> str:
        if trial is None:
            return "Measure the float model"
        return f"Trial {trial.change_from(Trial()) or 'as convert does'}"

    def _has_time(self) -> bool:
        return self._until is None or monotonic() < self._until

    def _keep(self, trial: Trial | None, done: Done) -> None:
        if done.lost:  # which may not be the trial's fault, so that the next run tries again
            self._outcomes[trial] = Outcome(trial=trial, failed=done.lost, seconds=0)
            return
        outcome = done.result.model_copy(update={"worker": done.worker})
        if trial and not outcome.failed and not (self._store.bundle(trial) / MANIFEST).is_file():
            raise UserError(
                f"the worker {done.worker} wrote a bundle that is not to be seen here: all machines"
                f" need the folder {self._store.folder} at the same place"
            )
        self._store.keep(outcome)
        self._outcomes[trial] = outcome

    def _drop_bundles(self) -> None:
        fine = [o for o in self._outcomes.values() if o.trial and not o.failed]
        kept = {outcome.trial for outcome in front(fine)}  # of those that count
        for outcome in fine:
            if outcome.trial not in kept:
                self._store.drop_bundle(outcome.trial)
