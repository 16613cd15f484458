"""A stand-in for the model process, without Jittor. `python test/paint_standin.py` serves the page with it.

Its pictures show the mask's colours and the seed, so that a test knows whose picture it holds. A job's name
says how it behaves: `slow` (a second a step), `die-first` (before the first step), `die` (at the third),
`error`, `full` (no space for a file), `hang`, `compile` (says that it compiles), `late` (a second
after the last step). A photograph is labelled by its red; it may be called `die.png`, `slow.png` or
`error.png`.
"""
import errno
import io
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ldm import labels  # noqa: E402
from ldm.diffusion import Schedule  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.inference.rounds import Settings  # noqa: E402
from ldm.paint import worker  # noqa: E402

STEP_SECONDS = float(os.environ.get("STANDIN_STEP", 0.01))


def picture(mask, size, seed):
    """What the stand-in paints: H x W x 3 uint8."""
    ids = np.frombuffer(mask, np.uint8).reshape(size[1], size[0])
    return labels.colorize(ids) ^ np.frombuffer(seed.to_bytes(3, "big"), np.uint8)


def encoded(array, kind):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


class StandIn:
    def __init__(self, pipe):
        self.pipe = pipe

    def facts(self):
        return {"weights": {"unet": "0" * 32, "autoencoder": "0" * 32}}

    def make(self, job, on_step):
        name, rounds = job["name"], Settings(**job["rounds"]).for_schedule(Schedule.named("linear"))
        if name == "die-first":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "compile":
            self.pipe.send("compiling", job=job["job"], minutes=1)
        if name == "error":
            raise UserError(name, "is refused by the stand-in", "use another name")
        if name == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "a/file")
        pictures = [picture(job["mask"], job["size"], seed) for seed in job["seeds"]]
        count = 0
        for k, r in enumerate(rounds):
            for i in range(r.start):
                count += 1
                if name == "die" and count == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                if name == "hang" and count == 3:
                    os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(1 if name == "slow" else STEP_SECONDS)
                on_step(worker.Step(k + 1, len(rounds), i + 1, r.start,
                                    lambda: [encoded(p[::4, ::4], "PNG") for p in pictures]))
        if name == "late":
            time.sleep(1)
        return [(encoded(p, "PNG"), encoded(p, "JPEG")) for p in pictures]

    def answer(self, question):
        if question["kind"] == "check":
            label = str(question["mask"][0])
            return {"segmenter": "the stand-in", "found": 50.0, "classes": {label: 25.0}}
        if question["name"] == "die.png":
            os.kill(os.getpid(), signal.SIGKILL)
        if question["name"] == "slow.png":
            time.sleep(60)
        if question["name"] == "error.png":
            raise UserError("error.png", "is refused by the stand-in", "use another name")
        picture = Image.open(io.BytesIO(question["picture"])).convert("RGB").resize(question["size"], 0)
        ids = (np.asarray(picture)[..., 0] % 29).tobytes()
        return {"ids": ids, "confidence": 0.75, "doubts": "is doubted"}


def load(pipe, options):
    if os.environ.get("STANDIN_FATAL"):
        raise UserError("the stand-in", "is told not to start", "do not tell it")
    return StandIn(pipe)


COMMAND = (sys.executable, str(Path(__file__).resolve()), "--worker")


def main():
    """The page's server with the stand-in: [--port PORT] [--model FOLDER] ..., as tools/paint.py."""
    sys.path.insert(0, str(ROOT / "tools"))
    import cli
    import paint
    cli.run(lambda argv: paint.main(argv, command=COMMAND))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker.start(load, sys.argv[2:])
    else:
        main()
