"""The model processes at work: jobs go to those that are idle, and what they say goes to the jobs."""
from __future__ import annotations

import asyncio
import base64
import itertools
import secrets
from typing import Any, Mapping, Optional, Sequence

from ldm.paint import limits, process
from ldm.paint.errors import Refusal
from ldm.paint.jobs import CANCELLED, DONE, FAILED, Job, Queue
from ldm.paint.presets import Presets
from ldm.paint.process import ModelProcess
from ldm.paint.store import Result, Store

ATTEMPTS = 2                # at a job whose process ended before the first step


class Pool:
    """One queue, and a process for each of `environments`.

    command: starts a process, see ModelProcess. keeper: writes results to a folder, or None.
    """

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]],
                 size: tuple[int, int], store: Store, presets: Presets, keeper: Optional[Any] = None) -> None:
        self.size, self.store, self.presets, self.keeper = size, store, presets, keeper
        self.queue = Queue(self.give_work, self.cancel)
        self.processes = [ModelProcess(command, environment, self.on_message, self.died)
                          for environment in environments]
        self.facts: dict[str, Any] = {"weights": {}}
        self.tasks: list[asyncio.Task[None]] = []
        self.numbers = itertools.count()

    async def start(self) -> None:
        work = [self._watch(), *(one.run() for one in self.processes)]
        self.tasks = [asyncio.ensure_future(part) for part in work]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        for one in self.processes:
            one.kill()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _watch(self):
        while True:
            await asyncio.sleep(1)
            self.queue.sweep()
            self.store.remove_old_results()
            for one in self.processes:
                one.watch()

    def state(self) -> dict[str, str]:
        """The state of all processes: the best one's, since one is enough to work."""
        order = (process.READY, process.COMPILING, process.STARTING, process.SILENT, process.DEAD)
        best = min(self.processes, key=lambda one: order.index(one.state))
        return {"state": best.state, "message": best.message}

    def is_dead(self) -> bool:
        return all(one.state == process.DEAD for one in self.processes)

    def warnings(self) -> list[str]:
        """Texts that the page should show as warnings."""
        return [self.keeper.problem] if self.keeper and self.keeper.problem else []

    def give_work(self) -> None:
        for one in self.processes:
            if one.idle and (job := self.queue.next()):
                one.job = job
                order = job.order
                one.send("job", job=job.id, mask=order.mask.ids, size=self.size, rounds=order.rounds,
                         reference=order.reference and order.reference.png, name=order.name,
                         seeds=[order.seed + i for i in range(order.variations)],
                         mask_id=order.mask.id, reference_id=order.reference and order.reference.id)

    def cancel(self, job: Job) -> None:
        for one in self.processes:
            if one.job is job and one.state == process.SILENT:
                one.kill()                          # it would not read the message; another one is started
            elif one.job is job:
                one.send("cancel", job=job.id)

    async def ask(self, kind: str, **question: Any) -> dict[str, Any]:
        """The answer to a question of segmenters.py, beside the jobs: a process looks at it between two
        steps. Raises Refusal: 503 where no process is ready or it ends, 422 for what cannot be used."""
        able = [one for one in self.processes if one.state == process.READY]
        if not able or sum(len(one.questions) for one in able) >= limits.QUESTIONS:
            raise Refusal(503, "the model", "is not ready" if not able else "has other questions to answer",
                          "try again in a moment", wait=5)
        one = min(able, key=lambda one: (len(one.questions), one.job is not None))
        number = next(self.numbers)
        one.questions[number] = asyncio.get_running_loop().create_future()
        one.send(kind, question=number, **question)
        try:
            message = await one.questions[number]
        finally:
            del one.questions[number]
        if "error" in message:
            error = message["error"]
            raise Refusal(422, error["what"], error["is"], error["possible"])
        return message["found"]

    def on_message(self, one: ModelProcess, message: dict[str, Any]) -> None:
        """Handle a message of a process: about its job, or about itself."""
        kind, job = message["kind"], one.job
        if kind == "ready":
            self.facts = {"weights": message["weights"]}
            if "measured" in message:
                self.presets.note(*message["measured"])
        elif kind == "answer":
            if (future := one.questions.get(message["question"])) and not future.done():
                future.set_result(message)
        elif kind == "compiling" and job is not None:
            job.compiling = True
            job.say("compiling", minutes=message["minutes"])
        elif job is not None and message.get("job") == job.id:
            getattr(self, f"_{kind}")(one, job, message)
        self.give_work()

    def _step(self, one, job, message):
        job.stepped, job.compiling = True, False
        job.say("step", seconds=job.step_seconds(message["done"], job.order.steps),
                **{key: message[key] for key in ("round", "rounds", "step", "steps")})

    def _preview(self, one, job, message):
        job.say("preview", png=[base64.b64encode(png).decode() for png in message["pngs"]])

    def _done(self, one, job, message):
        order, one.job = job.order, None
        if job.cancelling:                                  # too late for the model, but nobody wants it
            return self.queue.end(job, CANCELLED)
        made = [Result(secrets.token_hex(16), png, jpg, order.mask, order.reference,
                       {"seed": order.seed + i, "name": order.name, "rounds": order.rounds,
                        "preset": order.preset})
                for i, (png, jpg) in enumerate(message["pictures"])]
        for result in made:
            self.store.add(result)
        if "compiling" not in job.latest:                   # its seconds were mostly the compiler's
            self.presets.note(order.rounds, message["seconds"] / order.variations)
        if self.keeper:
            self.keeper.write_later(made)
        self.queue.end(job, DONE, seconds=round(message["seconds"], 3),
                       results=[{"id": result.id, "seed": result.about["seed"], "name": order.name}
                                for result in made])

    def _failed(self, one, job, message):
        one.job = None
        self.queue.end(job, FAILED, **{key: message[key] for key in ("what", "is", "possible")})

    def _cancelled(self, one, job, message):
        one.job = None
        self.queue.end(job, CANCELLED)

    def died(self, one: ModelProcess, how: str) -> None:
        """Handle the end of a process: its job is tried again if it had not begun, else it fails."""
        job, one.job = one.job, None
        for future in one.questions.values():
            if not future.done():
                future.set_exception(Refusal(503, "the question", f"was not answered: {how}", "try again"))
        if job is None:
            pass
        elif job.cancelling:
            self.queue.end(job, CANCELLED)
        elif not job.stepped and job.attempts < ATTEMPTS and one.state != process.DEAD:
            self.queue.again(job)
        else:
            self.queue.end(job, FAILED, **{"what": "the picture", "is": f"was not made: {how}",
                                           "possible": "try again"})
        if self.is_dead():
            for job in list(self.queue.waiting):
                self.queue.end(job, FAILED, what="the model", possible=process.DOCTOR, **{"is": one.message})
        self.give_work()
