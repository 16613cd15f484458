"""The training loop, for any task: steps, averages, states, validation, logs, samples.

A task has
    network                     what is trained
    sections                    the parts of the config that it depends on
    batch(step)                 -> numpy arrays, a function of (seed, step) alone
    loss(batch)                 -> (loss Var, {name: Var} to log)
    after_step(step)            what the task does to the network between steps; most do nothing
    sample()                    -> an H x W x 3 uint8 picture, with the averaged network
    arrays() / restore(arrays)  numpy arrays of its own to keep in the state
"""
import contextlib
import signal
import time
from pathlib import Path

import numpy as np

from ldm import config as configs
from ldm import files, images, weights
from ldm.backend import jt
from ldm.datasets.reader import Reader
from ldm.training import ema, memory, parallel
from ldm.training.loss_scale import Diverged, LossScale
from ldm.training.run import checkpoints, jsonl, recovery, state
from ldm.training.step import optimize


class Trainer:
    """Trains `task` as `options` (a config's training section) say, in folder `run`; resumes by itself.

    validation: has `measure(network, thorough) -> {name: number}` and ranks the checkpoints (`best_by`,
    `keep_best`, `metrics_every` of the options); without one only the newest are kept. more_rates: averages
    of further rates beside that of `ema_rate`.
    """

    def __init__(self, task, run, config, options, validation=None, more_rates=()):
        self.task, self.run, self.config, self.options = task, Path(run), config, options
        self.validation, self.batch = validation, task.batch
        self.parameters = task.network.state_dict()
        parallel.broadcast(list(self.parameters.values()))         # Jittor seeds each process for itself
        self.optimizer = jt.optim.AdamW(list(self.parameters.values()), options["learning_rate"],
                                        weight_decay=options["weight_decay"])
        self.averages = ema.several(task.network, [options["ema_rate"], *more_rates])
        self.ema = self.averages[0]
        self.scale = LossScale(options.get("precision") == "fp16")
        self.step, self.first_loss = 0, None       # that of the run's first step
        self.recent, self.times = [], []           # terms and seconds of the steps since the log's last line
        self.signalled = False                     # by the signal's handler, in this process
        self.stopping = False                      # as all ranks have agreed at the end of a step

    def alone(self):
        """A context in which no other process trains in this folder."""
        return files.locked(self.run) if parallel.rank() == 0 else contextlib.nullcontext()

    # ---- the state -----------------------------------------------------------------------------------------

    def _variables(self):
        """(name in the state, Var) of all that a step changes."""
        group = self.optimizer.param_groups[0]
        for i, (name, p) in enumerate(self.parameters.items()):
            yield f"network/{name}", p
            yield f"m/{name}", group["m"][i]
            yield f"v/{name}", group["values"][i]
            for average in self.averages:
                yield f"{average.label}/{name}", average.state[name]

    def resume(self, from_step=None):
        """Continue from the newest whole state of this run, if there is one, or from that of `from_step`
        (see run/recovery.py). -> a state.Found without its arrays. What the logs say of later steps is
        removed: those are done again."""
        shapes = {name: tuple(variable.shape) for name, variable in self._variables()}
        from_step = recovery.still_to_do(self.run, from_step, self.config, self.task.sections)
        found = state.latest(self.run, self.config, self.task.sections, shapes, from_step)
        self.step, arrays = found.step, found.arrays
        if arrays is not None:
            for name, variable in self._variables():
                variable.assign(jt.array(arrays[name]))
            self.task.restore(_below("task/", arrays))
            self.scale.restore(arrays)
            if "first_loss" in arrays:                             # states of 0.1 have none
                self.first_loss = float(arrays["first_loss"][0])
            logged = _below("log/", arrays)
            self.recent = [dict(zip(logged, map(float, row))) for row in zip(*logged.values())]
        parallel.wait()                                            # nothing moves before all ranks have read
        if parallel.rank() == 0:
            recovery.record(self.run, found, from_step, self.config, self.task.sections)
            for name in (checkpoints.LOG, checkpoints.VALIDATION):
                jsonl.cut(self.run / name, self.step)
        return found._replace(arrays=None)

    def save(self):
        """Write the state, then remove the files that are not kept."""
        arrays = {f"task/{name}": array for name, array in self.task.arrays().items()}
        arrays.update((name, variable.numpy()) for name, variable in self._variables())
        arrays.update(self.scale.arrays())
        arrays["first_loss"] = np.float32([self.first_loss])
        if self.recent:
            for name in self.recent[0]:
                arrays[f"log/{name}"] = np.array([terms[name] for terms in self.recent])
        state.save(self.run, self.step, arrays, self.config, self.task.sections)
        best = []
        if self.validation:
            lines = checkpoints.ranked(self.run, self.options["best_by"])
            best = [line["step"] for line in lines[:self.options["keep_best"]]]
        checkpoints.prune(self.run, self.step, self.options["keep"], best)

    # ---- what a run leaves ---------------------------------------------------------------------------------

    def publish(self):
        """Write each average's weights alone, for sampling and ensembles; what validation says of them."""
        for average in self.averages:
            path = checkpoints.path_of(self.run, average.label, self.step)
            weights.save(path, {name: a.numpy() for name, a in average.state.items()}, self.config)
            if self.validation:
                thorough = average is self.ema and self._metrics_are_due()
                with average.applied() as network:
                    measured = self.validation.measure(network, thorough)
                jsonl.append(self.run / checkpoints.VALIDATION,
                               {"step": self.step, "file": path.name, "ema_rate": average.rate, **measured})

    def log(self):
        """One line of train.jsonl: means since the last line."""
        seconds = max(sum(self.times) / len(self.times), 1e-9)         # of a clock that does not move, too
        jsonl.append(self.run / checkpoints.LOG, {
            "step": self.step, "learning_rate": self.optimizer.lr,
            **{name: float(np.mean([r[name] for r in self.recent])) for name in self.recent[0]},
            "samples_per_second": round(self.options["batch_size"] / seconds, 2),
            "memory_gb": round(memory.peak() / 1e9, 2),
            "hours_left": round(seconds * (self.options["steps"] - self.step) / 3600, 3)})
        self.recent, self.times = [], []

    def write_what_is_due(self):
        """Log, samples, averages; the state last, since it says that all else of its step is there."""
        if self._due("log_every"):
            self.log()
        if self._due("sample_every"):
            with self.ema.applied():
                images.write_image(self.run / f"samples-{self.step:07d}.jpg", self.task.sample())
        if self._due("save_every") or self.stopping:
            self._refuse_unless_finite()
        if self._due("save_every"):
            self.publish()
        if self._due("save_every") or self.stopping:
            self.save()

    def _refuse_unless_finite(self):
        """No state and no average is written of numbers from which nothing can go on."""
        for name, variable in self._variables():
            if not np.isfinite(variable.numpy()).all():
                raise self._diverged(f"'{name}' is not finite after step {self.step}")

    def _diverged(self, what):
        """The UserError of a run whose numbers `what` says are of no use, with the way on."""
        return recovery.diverged(self.run, self.step, what, f"{self.task.sections[-1]}.learning_rate",
                                 self.options["learning_rate"])

    def _due(self, interval):
        return self.step % self.options[interval] == 0 or self.step == self.options["steps"]

    def _metrics_are_due(self):
        """At the first save from each multiple of `metrics_every` on, and at the end."""
        o = self.options
        last_save = (self.step - 1) // o["save_every"] * o["save_every"]
        return self.step // o["metrics_every"] > last_save // o["metrics_every"] or self.step == o["steps"]

    # ---- the loop ------------------------------------------------------------------------------------------

    def learning_rate(self):
        """Linear warm-up, then constant or down to zero along a cosine."""
        o, step = self.options, self.step
        warm = min(1.0, (step + 1) / max(1, o["warmup_steps"]))
        fall = 0.5 * (1 + np.cos(np.pi * step / o["steps"])) if o["decay"] == "cosine" else 1.0
        return o["learning_rate"] * warm * fall

    def train_step(self):
        """One optimiser step. -> the logged terms as floats. A loss that is not finite, or out of all
        proportion to the run's first, is a UserError."""
        self.optimizer.lr = self.learning_rate()
        most = np.inf if self.first_loss is None else recovery.EXPLODED * max(abs(self.first_loss), 1)
        try:
            values = optimize(self.task, self.batch(self.step), self.optimizer, self.step, self.options,
                              self.scale, most)
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

    def train(self, progress=None):
        """Train to the configured number of steps, or until SIGTERM, saving as configured and at the end.
        `progress(step, terms)` is called after each step."""
        if parallel.rank() == 0:
            configs.save(self.run / "config.yaml", self.config)
        stop = parallel.stop_signal()
        previous = signal.signal(stop, lambda *_: setattr(self, "signalled", True))
        signal.siginterrupt(stop, False)           # Jittor's waiting for its lock dies of an interruption
        try:
            with Reader(self.task.batch, self.options["steps"]) as self.batch:
                self.steps(progress)
        finally:
            self.batch = self.task.batch
            signal.signal(stop, previous)

    def steps(self, progress):
        """Step by step. A signal is heeded where all ranks agree on it, once a step, and nowhere else: it
        comes at any moment, and a rank that stopped by itself would leave the others waiting for ever."""
        while self.step < self.options["steps"] and not self.stopping:
            begin = time.perf_counter()
            terms = self.train_step()
            self.times.append(time.perf_counter() - begin)
            self.recent.append({name: float(np.float32(v)) for name, v in terms.items()})   # as states keep
            if progress:
                progress(self.step, terms)
            self.stopping = parallel.any_rank(self.signalled)
            if parallel.rank() == 0:
                self.write_what_is_due()


def _below(prefix, arrays):
    return {name[len(prefix):]: array for name, array in arrays.items() if name.startswith(prefix)}
