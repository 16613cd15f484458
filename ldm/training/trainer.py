"""The training loop for any task (see `task`): steps, averages, states, validation, logs, samples."""
from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator, Optional, Sequence, Union

import numpy as np

from ldm import config as configs
from ldm import files, images, weights
from ldm.backend import Var, jt
from ldm.datasets.reader import Reader
from ldm.errors import UserError
from ldm.training import ema, fused, memory, parallel
from ldm.training.learning_rate import rate_factor
from ldm.training.loss_scale import Diverged, LossScale
from ldm.training.run import checkpoints, jsonl, recovery, state
from ldm.training.step import count, optimize
from ldm.training.task import Measure, Task

BETAS = (0.9, 0.999)            # of Adam, if the options have no `betas`


class Trainer:
    """Trains `task` in the folder `run`. options: the config's section for this training.

    validation: ranks the checkpoints (see `best_by`, `keep_best` and `metrics_every` of the options); without
    it only the newest ones are kept. more_rates: rates of further averages besides `ema_rate`.
    """

    def __init__(self, task: Task, run: Union[str, Path], config: dict, options: dict,
                 validation: Optional[Measure] = None, more_rates: Sequence[float] = ()) -> None:
        self.task, self.run, self.config, self.options = task, Path(run), config, options
        self.validation = validation
        self.batch: Callable[[int], Any] = task.batch       # `train` replaces it by one that reads ahead
        whole = task.network.state_dict()
        parallel.broadcast(list(whole.values()))       # Jittor gives each process its own seed
        self.parameters = {name: p for name, p in whole.items() if not p.is_stop_grad()}
        self.buffers = {name: p for name, p in whole.items() if p.is_stop_grad()}   # such as running means
        self.optimizer = fused.AdamW(list(self.parameters.values()), options["learning_rate"],
                                     betas=tuple(options.get("betas", BETAS)),
                                     weight_decay=options["weight_decay"])
        self.averages = ema.ema_averages(task.network, [options["ema_rate"], *more_rates])
        self.ema = self.averages[0]
        self.scale = LossScale(options.get("precision") == "fp16")
        self.step = 0
        self.until: int = options["steps"]              # the step at which `train` ends
        self.items = 0                                  # of the last batch
        self.first_loss: Optional[float] = None         # the loss of the run's first step
        self.unlogged_terms: list[dict[str, float]] = []
        self.unlogged_seconds: list[float] = []
        self.stop_requested = False                     # in this process, by a signal
        self.stop_agreed = False                        # by all ranks, at the end of a step

    def locked(self) -> ContextManager:
        """A context in which no other process trains in this folder; a UserError if one does already."""
        return files.locked(self.run) if parallel.rank() == 0 else contextlib.nullcontext()

    # ---- the state -----------------------------------------------------------------------------------------

    def _variables(self) -> Iterator[tuple[str, Var]]:
        """(name in the state, Var) of everything that a step changes."""
        group = self.optimizer.param_groups[0]
        for i, (name, p) in enumerate(self.parameters.items()):
            yield f"network/{name}", p
            yield f"m/{name}", group["m"][i]
            yield f"v/{name}", group["values"][i]
        for name, p in self.buffers.items():
            yield f"network/{name}", p
        for average in self.averages:
            for name, p in average.state.items():
                yield f"{average.label}/{name}", p

    def resume(self, from_step: Optional[int] = None) -> state.Found:
        """Continue from the newest undamaged state of this run, if it has one, or from the state of
        `from_step` (see run/recovery.py). Returns the state without its arrays. Lines of the logs about later
        steps are removed, as these steps are done again."""
        shapes = {name: tuple(variable.shape) for name, variable in self._variables()}
        from_step = recovery.still_to_do(self.run, from_step, self.config, self.task.sections)
        found = state.latest(self.run, self.config, self.task.sections, shapes, from_step)
        self.step, arrays = found.step, found.arrays
        if arrays is not None:
            for name, variable in self._variables():
                variable.assign(jt.array(arrays[name]))
            self.task.restore(_below("task/", arrays))
            self.scale.restore(arrays)
            if "first_loss" in arrays:                             # not in states of version 0.1
                self.first_loss = float(arrays["first_loss"][0])
            logged = _below("log/", arrays)
            self.unlogged_terms = [dict(zip(logged, map(float, row))) for row in zip(*logged.values())]
        parallel.wait()                                # files change only after all ranks have read them
        if parallel.rank() == 0:
            recovery.record(self.run, found, from_step, self.config, self.task.sections)
            for name in (checkpoints.LOG, checkpoints.VALIDATION):
                jsonl.cut(self.run / name, self.step)
        return found._replace(arrays=None)

    def save(self) -> None:
        """Write the state, then delete the files that need not be kept."""
        arrays = {f"task/{name}": array for name, array in self.task.arrays().items()}
        arrays.update((name, variable.numpy()) for name, variable in self._variables())
        arrays.update(self.scale.arrays())
        arrays["first_loss"] = np.array([self.first_loss], np.float32)
        if self.unlogged_terms:
            for name in self.unlogged_terms[0]:
                arrays[f"log/{name}"] = np.array([terms[name] for terms in self.unlogged_terms])
        state.save(self.run, self.step, arrays, self.config, self.task.sections)
        best: list[int] = []
        if self.validation:
            lines = checkpoints.ranked(self.run, self.options["best_by"])
            best = [line["step"] for line in lines[:self.options["keep_best"]]]
        checkpoints.prune(self.run, self.step, self.options["keep"], best)

    # ---- the files of a run --------------------------------------------------------------------------------

    def publish(self) -> None:
        """Write the weights of each average, for sampling and ensembles, and validate them."""
        for average in self.averages:
            path = checkpoints.path_of(self.run, average.label, self.step)
            weights.save(path, {name: a.numpy() for name, a in average.state.items()}, self.config)
            if self.validation:
                thorough = average is self.ema and self._metrics_are_due()
                with average.applied() as network:
                    measured = self.validation.measure(network, thorough)
                jsonl.append(self.run / checkpoints.VALIDATION,
                               {"step": self.step, "file": path.name, "ema_rate": average.rate, **measured})

    def log(self) -> None:
        """Write one line of train.jsonl: means since the last line."""
        seconds = max(sum(self.unlogged_seconds) / len(self.unlogged_seconds), 1e-9)  # no division by 0
        means = {name: float(np.mean([terms[name] for terms in self.unlogged_terms]))
                 for name in self.unlogged_terms[0]}
        jsonl.append(self.run / checkpoints.LOG, {
            "step": self.step, "learning_rate": self.optimizer.lr, **means,
            "samples_per_second": round(self.items / seconds, 2),
            "memory_gb": round(memory.peak() / 1e9, 2),
            "hours_left": round(seconds * (self.until - self.step) / 3600, 3)})
        self.unlogged_terms, self.unlogged_seconds = [], []

    def write_due_files(self) -> None:
        """Log, samples and averages; then the state, which implies that all other files of its step exist."""
        if self._due("log_every"):
            self.log()
        if self._due("sample_every"):
            with self.ema.applied():
                images.write_image(self.run / f"samples-{self.step:07d}.jpg", self.task.sample())
        if self._due("save_every") or self.stop_agreed:
            self._refuse_unless_finite()
        if self._due("save_every"):
            self.publish()
        if self._due("save_every") or self.stop_agreed:
            self.save()

    def _refuse_unless_finite(self):
        """Raise before a state or an average with NaN or infinite numbers is written."""
        for name, variable in self._variables():
            if not np.isfinite(variable.numpy()).all():
                raise self._diverged(f"'{name}' is not finite after step {self.step}")

    def _diverged(self, what: str) -> UserError:
        """The error of a run with unusable numbers. what: which ones."""
        return recovery.diverged(self.run, self.step, what, f"{self.task.sections[-1]}.learning_rate",
                                 self.options["learning_rate"])

    def _due(self, interval):
        return self.step % self.options[interval] == 0 or self.step == self.until

    def _metrics_are_due(self):
        """At the first save at or after each multiple of `metrics_every`, and at the end of a size."""
        save_every, metrics_every = self.options["save_every"], self.options["metrics_every"]
        last_save = (self.step - 1) // save_every * save_every
        return self.step // metrics_every > last_save // metrics_every or self.step == self.until

    # ---- the loop ------------------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self.options["learning_rate"] * rate_factor(self.options, self.step)

    def train_step(self) -> dict[str, float]:
        """Take one optimiser step. Returns the logged terms. A loss that is not finite, or more than
        recovery.EXPLODED times the run's first one, is a UserError."""
        self.optimizer.lr = self.learning_rate()
        most = np.inf if self.first_loss is None else recovery.EXPLODED * max(abs(self.first_loss), 1)
        batch = self.batch(self.step)
        self.items = count(batch)
        try:
            values = optimize(self.task, batch, self.optimizer, self.step, self.options, self.scale, most)
        except Diverged as e:
            raise self._diverged(str(e)) from None
        if self.first_loss is None:
            self.first_loss = values["loss"]
        for average in self.averages:
            average.update()
        jt.sync_all()
        self.step += 1
        self.task.after_step(self.step)
        return values

    def train(self, progress: Optional[Callable[[int, dict], Any]] = None,
              until: Optional[int] = None) -> None:
        """Train to step `until`, by default the configured number of steps, or until SIGTERM. Saves as
        configured, and at the end. progress(step, terms) is called after each step."""
        self.until = self.options["steps"] if until is None else until
        if parallel.rank() == 0:
            configs.save(self.run / "config.yaml", self.config)
        stop = parallel.stop_signal()
        previous = signal.signal(stop, lambda *_: setattr(self, "stop_requested", True))
        signal.siginterrupt(stop, False)           # an interrupted wait for Jittor's lock ends the process
        try:
            with Reader(self.task.batch, self.until) as self.batch:
                self.steps(progress)
        finally:
            self.batch = self.task.batch
            signal.signal(stop, previous)

    def steps(self, progress: Optional[Callable[[int, dict], Any]]) -> None:
        """The loop of `train`. The ranks agree once per step whether a signal asked them to stop. It arrives
        at any moment, and a rank that stopped alone would leave the others waiting for ever."""
        while self.step < self.until and not self.stop_agreed:
            begin = time.perf_counter()
            terms = self.train_step()
            self.unlogged_seconds.append(time.perf_counter() - begin)
            self.unlogged_terms.append({name: float(np.float32(v)) for name, v in terms.items()})  # as states
            if progress:
                progress(self.step, terms)
            self.stop_agreed = parallel.any_rank(self.stop_requested)
            if parallel.rank() == 0:
                self.write_due_files()


def _below(prefix, arrays):
    return {name[len(prefix):]: array for name, array in arrays.items() if name.startswith(prefix)}
