"""The training loop, for any task: batches, steps, averages, states, a log, samples.

A task has
    network                     what is trained
    sections                    the parts of the config that it depends on
    batch(step)                 -> numpy arrays, a function of (seed, step) alone
    loss(batch)                 -> (loss Var, {name: Var} to log)
    after_step(step)            what the task does to the network between steps; most do nothing
    sample()                    -> an H x W x 3 uint8 picture, with the averaged network
    arrays() / restore(arrays)  numpy arrays of its own to keep in the state
"""
import json
import signal
import time
from pathlib import Path

import numpy as np

from ldm import images, weights
from ldm.backend import jt
from ldm.errors import UserError
from ldm.training import state
from ldm.training.ema import EMA


class Trainer:
    """Trains `task` as `options` (a config's training section) say, in folder `run`; resumes by itself."""

    def __init__(self, task, run, config, options):
        self.task, self.run, self.config, self.options = task, Path(run), config, options
        self.parameters = task.network.state_dict()
        self.optimizer = jt.optim.AdamW(list(self.parameters.values()), options["learning_rate"],
                                        weight_decay=options["weight_decay"])
        self.ema = EMA(task.network, options["ema_rate"])
        self.step = 0
        self.stopping = False

    def resume(self):
        """Continue from the newest state of this run, if there is one. -> the step."""
        self.step, arrays = state.latest(self.run, self.config, self.task.sections)
        if arrays is not None:
            moments = self.optimizer.param_groups[0]
            for i, (name, p) in enumerate(self.parameters.items()):
                p.assign(jt.array(arrays[f"network/{name}"]))
                self.ema.state[name].assign(jt.array(arrays[f"ema/{name}"]))
                moments["m"][i].assign(jt.array(arrays[f"m/{name}"]))
                moments["values"][i].assign(jt.array(arrays[f"v/{name}"]))
            self.optimizer.n_step = self.step
            self.task.restore({k[5:]: v for k, v in arrays.items() if k.startswith("task/")})
        return self.step

    def save(self):
        """Write the state, and the averaged weights alone for sampling and for ensembles."""
        moments = self.optimizer.param_groups[0]
        arrays = {f"task/{k}": v for k, v in self.task.arrays().items()}
        for i, (name, p) in enumerate(self.parameters.items()):
            arrays[f"network/{name}"], arrays[f"ema/{name}"] = p.numpy(), self.ema.state[name].numpy()
            arrays[f"m/{name}"], arrays[f"v/{name}"] = moments["m"][i].numpy(), moments["values"][i].numpy()
        state.save(self.run, self.step, arrays, self.config, keep=2)
        slim = sorted(self.run.glob("ema-*.safetensors"))
        averaged = {name: a.numpy() for name, a in self.ema.state.items()}
        weights.save(self.run / f"ema-{self.step:07d}.safetensors", averaged, self.config)
        for old in slim[:max(0, len(slim) + 1 - self.options["keep"])]:
            old.unlink()

    def learning_rate(self):
        """Linear warm-up, then constant or down to zero along a cosine."""
        o, step = self.options, self.step
        warm = min(1.0, (step + 1) / max(1, o["warmup_steps"]))
        fall = 0.5 * (1 + np.cos(np.pi * step / o["steps"])) if o["decay"] == "cosine" else 1.0
        return o["learning_rate"] * warm * fall

    def train_step(self):
        """One optimiser step. -> the logged terms as floats. A loss that is not finite stops the run."""
        self.optimizer.lr = self.learning_rate()
        loss, terms = self.task.loss(self.task.batch(self.step))
        self.optimizer.step(loss)
        self.ema.update()
        jt.sync_all()
        values = {name: float(v.item()) for name, v in {"loss": loss, **terms}.items()}
        if not np.isfinite(values["loss"]):
            raise UserError("training", f"the loss is {values['loss']} at step {self.step}",
                            f"lower the learning rate; the last good state is in {self.run}")
        self.step += 1
        self.task.after_step(self.step)
        return values

    def train(self, progress=None):
        """Train to the configured number of steps, or until SIGTERM, saving as configured and at the end.
        `progress(step, terms)` is called after each step."""
        self.run.mkdir(parents=True, exist_ok=True)
        previous = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        last, since, recent = self.options["steps"], time.time(), []
        try:
            while self.step < last and not self.stopping:
                recent.append(self.train_step())
                if progress:
                    progress(self.step, recent[-1])
                if self._due("log_every"):
                    self.log(recent, time.time() - since)
                    since, recent = time.time(), []
                if self._due("save_every") or self.stopping:
                    self.save()
                if self._due("sample_every"):
                    with self.ema.applied():
                        images.write_image(self.run / f"samples-{self.step:07d}.jpg", self.task.sample())
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _due(self, interval):
        return self.step % self.options[interval] == 0 or self.step == self.options["steps"]

    def log(self, recent, seconds):
        """One line of train.jsonl: means since the last line."""
        line = {"step": self.step, "learning_rate": self.learning_rate(),
                "samples_per_second": round(len(recent) * self.options["batch_size"] / seconds, 2),
                **{k: float(np.mean([r[k] for r in recent])) for k in recent[0]}}
        with open(self.run / "train.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")
