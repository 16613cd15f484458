"""A fuzzer of the tools: `python test/fuzz.py --cases 3000 --seed 1`.

Bad options, texts, pictures, weights and places are given to the tools on a tiny model, and what comes of it
is judged: a tool ends in time and memory with one line for each thing that is wrong, changes no file that it
was given, and makes of what is good the same as if nothing were bad. `--case N` runs one case of a seed
again and shows what it said.

Each case runs in a process that is forked off this one, which has loaded Jittor and made the results of good
input, so that all operators are loaded. OpenMP's threads would not outlive that, so there is one.
"""
from __future__ import annotations

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1", PYTHONHASHSEED="0")

import contextlib  # noqa: E402
import hashlib  # noqa: E402
import resource  # noqa: E402
import runpy  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NamedTuple  # noqa: E402

import fuzz_inputs as bad  # noqa: E402
import numpy as np  # noqa: E402
from conftest import GOLDEN, ROOT  # noqa: E402
from fuzz_cases import KINDS, PLACES, SHARES, gan_arguments, infer_arguments, train_arguments  # noqa: E402
from PIL import Image  # noqa: E402
from tiny import CONFIG, make_model, make_pairs, run_tool  # noqa: E402

from ldm import config as configs  # noqa: E402
from ldm.errors import UserError  # noqa: E402

ROUNDS = """
rounds:
  - {strength: 0.5, steps: 1, guidance: 2.0}
  - {strength: 0.4, steps: 1, guidance: 1.5, color_transfer: exact}
"""
HASHES = {}             # of files that have several names
CPU_SECONDS, WALL_SECONDS, MEMORY = 10, 120, 600 << 20     # more memory than this process had before


class Run(NamedTuple):
    """What a tool did: its exit status (negative: a signal), what it printed, seconds, bytes of memory."""
    status: int
    out: bytes
    err: bytes
    seconds: float
    memory: int


def run_here(tool, arguments, folder, wait=WALL_SECONDS):
    """Run a tool in a process that is a copy of this one, in `folder`."""
    logs = [tempfile.TemporaryFile() for _ in range(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    child = os.fork()
    if not child:
        _be_the_tool(tool, arguments, folder, logs)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        late = time.monotonic() - begun > wait
        if done or late:
            break
        time.sleep(0.005)
    if late and not done:
        os.killpg(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
    texts = []
    for log in logs:
        log.seek(0)
        texts.append(log.read(1 << 20))
        log.close()
    return Run(os.waitstatus_to_exitcode(status), *texts, usage.ru_utime + usage.ru_stime,
               usage.ru_maxrss * 1024)


def _be_the_tool(tool, arguments, folder, logs):
    """What the forked process does; never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, log in enumerate(logs, 1):
            os.dup2(log.fileno(), number)
        resource.setrlimit(resource.RLIMIT_CPU, (6 * CPU_SECONDS, 6 * CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
        path = ROOT / "tools" / f"{tool}.py"
        sys.argv = [str(path), *arguments]
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


# ---- what all cases begin from

class World:
    """A folder with a tiny model, data, a training run, and the results of good input."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.base = self.folder / "base"
        self.base.mkdir(parents=True)
        (self.base / "model").mkdir()
        make_model(self.base / "model")
        (self.base / "model/rounds.yaml").write_text(ROUNDS)
        make_pairs(self.base / "data")
        data = self.base / "data"
        for name, part in (("labels", "masks"), ("imgs", "references")):
            shutil.copytree(data / part, self.base / "train" / name)
        names = sorted(p.stem for p in (data / "masks").iterdir())
        self.stems = names
        (self.base / "pairs.json").write_text(str({f"{n}.png": f"{n}.jpg" for n in names}).replace("'", '"'))
        for name in ("weights_lightning.ckpt", "weights_legacy.pt", "weights_jittor.pkl"):
            shutil.copy(GOLDEN / name, self.base / name)
        configs.save(self.base / "config.yaml", CONFIG)
        from tiny_gan import make_model as make_gan  # it loads Jittor
        make_gan(self.base / "gans/gaugan", "gaugan")
        shutil.copytree(data / "masks", self.base / "test/val_B_labels_resized")
        shutil.copytree(data / "references", self.base / "test/imgs")
        self._every_tool_once()
        self.results = self._results()
        self.state = self._trained()

    def _every_tool_once(self):
        """Load all operators: a copy of this process cannot compile any, as it has no threads for that."""
        here = os.getcwd()
        os.chdir(self.base)
        for tool, (arguments, _) in PLACES.items():
            run_tool(tool, *arguments())                # some end with an error: there are no such weights
        run_tool("infer", *gan_arguments("out/gan"))
        os.chdir(here)
        shutil.rmtree(self.base / "out")

    def _good(self, tool, *arguments):
        here = os.getcwd()
        os.chdir(self.base)
        done = run_tool(tool, *arguments)
        os.chdir(here)
        if done.returncode:
            raise SystemExit(f"good input of {tool} ends with {done.returncode}: {done.stderr}")

    def _results(self):
        self._good("infer", *infer_arguments("good"))
        found = {p.name: p.read_bytes() for p in (self.base / "good").iterdir() if p.stem in self.stems}
        if len(found) != len(self.stems):
            raise SystemExit(f"good input made {sorted(found)}")
        return found

    def _trained(self):
        self._good("train", *train_arguments("run"))
        return {p.name: p.read_bytes() for p in (self.base / "run").iterdir() if p.name.startswith("ema-")}

    def copy(self, name):
        """A folder that begins as `base`, its files shared with it."""
        target = self.folder / name
        shutil.copytree(self.base, target, copy_function=os.link)
        return target


# ---- judging

def hashed(path):
    """A hash of a file's bytes; the files that all cases share are read once."""
    s = os.stat(path)
    stamp = s.st_ino, s.st_size, s.st_mtime_ns
    if s.st_nlink == 1 or stamp not in HASHES:
        with open(path, "rb") as file:
            HASHES[stamp] = hashlib.sha1(file.read()).digest()
    return HASHES[stamp]


def snapshot(folder):
    """path -> what it is, by content, of all below `folder`."""
    found = {}
    for root, folders, names in os.walk(os.fsencode(folder)):
        for name in [*names, *folders]:
            path = os.path.join(root, name)
            key = os.path.relpath(path, os.fsencode(folder))
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isfile(path):
                found[key] = hashed(path)
            else:
                found[key] = oct(os.lstat(path).st_mode)
    return found


def faults(case, run, before, after, place, memory):
    """What is wrong with `run`, as texts."""
    text = (run.out + run.err).decode("utf-8", "replace")
    errors = [line for line in run.err.decode("utf-8", "replace").splitlines() if line.startswith("error: ")]
    if run.status < 0 or run.seconds > CPU_SECONDS:
        yield f"hangs or dies: status {run.status} after {run.seconds:.1f} s of a processor"
    elif run.status not in (0, 2):
        yield f"status {run.status}"
    if "Traceback" in text or "Exception ignored" in text:
        yield "a traceback"
    if run.status == 2 and not errors:
        yield "status 2 without an error line"
    if run.status == 0 and errors:
        yield "status 0 with an error line"
    for line in errors:
        subject, colon, rest = line[len("error: "):].partition(": ")
        summary = line.split()[1].isdigit()
        if not summary and not (colon and subject.strip() and rest.strip()):
            yield f"an error without a subject: {line[:100]}"
        if len(line) > 2000:
            yield f"an error of {len(line)} letters"
    if len(errors) > 1 and not errors[-1].split()[1].isdigit():
        yield "several error lines without a last one that counts them"
    raw = [c for c in text if ord(c) < 32 and c not in "\n\r\t" or 127 <= ord(c) < 160]
    if raw:
        yield f"control characters reach the terminal: {raw[:3]!r}"
    if run.memory > memory + MEMORY:
        yield f"{(run.memory - memory) / 1e6:.0f} MB of memory"
    outputs = tuple(os.fsencode(name) for name in case.output)
    changed = [key for key, value in before.items()
               if after.get(key) != value and not key.startswith(outputs)]
    if changed:
        yield f"changed {changed[:3]}"
    half = [key for key in after if b".tmp" in key and key not in before]
    if half:
        yield f"left {half[:3]}"
    yield from _missing(case, run, errors, place)


def _missing(case, run, errors, place):
    """What of the expected results is not there, or otherwise than expected."""
    if run.status and not case.each:
        return
    for name, data in case.expected.items():
        path = place / name
        if not path.is_file():
            yield f"status {run.status}, but {name} is missing"
        elif data is not None and path.read_bytes() != data:
            yield f"{name} is not what good input makes"
        elif path.suffix == ".jpg":
            with Image.open(path) as image:
                image.load()


def one(world, seed, number, kinds):
    """Make, run and judge one case -> (Case, Run, list of faults)."""
    rng = np.random.default_rng([seed, number])
    kind = bad.pick(rng, [name for name in kinds for _ in range(SHARES.get(name, 1))])
    place = world.copy(f"case-{number}")
    try:
        case = KINDS[kind](rng, world, place)
        before = snapshot(place)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        run = run_here(case.tool, case.arguments, place)
        found = list(faults(case, run, before, snapshot(place), place, memory))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return kind, case, run, found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=300, metavar="N", help="how many")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first one's number: after a "
                        "fix a long run goes on where it failed")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--case", type=int, metavar="N", help="only this one, and show what it says")
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS), help="only these")
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT / "tools"))
    from ldm.platform import runtime
    runtime.prepare()
    from ldm import ablation, networks  # noqa: F401  what the tools would load each time
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            world = World(folder)
        except UserError as e:
            raise SystemExit(str(e)) from e
        numbers = range(args.first, args.first + args.cases) if args.case is None else [args.case]
        begun = time.monotonic()
        for number in numbers:
            kind, case, run, found = one(world, args.seed, number, args.kinds)
            if found or args.case is not None:
                failed += bool(found)
                shown = [a if len(a) < 200 else a[:200] + "..." for a in map(ascii, case.arguments)]
                print(f"seed {args.seed} case {number} ({kind}): {case.tool}.py {' '.join(shown)}",
                      *found, "  " + ascii(run.err[-600:].decode("utf-8", "replace")), sep="\n  ", flush=True)
        minutes = (time.monotonic() - begun) / 60
    print(f"{len(numbers)} cases of seed {args.seed}: {failed} failed; {len(numbers) / minutes:.0f} a minute")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
