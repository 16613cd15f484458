"""A job in several processes: its bookkeeping with stand-ins for the model, then the tool itself."""
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from tiny import make_model, make_pairs, one_error, run_tool, start_tool

from ldm import images
from ldm.errors import UserError
from ldm.inference import workers
from ldm.inference.job import Item, Plan
from ldm.platform import devices as platform_devices

STEPS = 3                                       # of each image of the stand-ins


def stand_in(folder, deadly=None, times=0, at_start=False):
    """A `load` for workers: it makes files with its process' number, and dies at `deadly` so many times."""
    def die():
        for k in range(times):
            with contextlib.suppress(FileExistsError):          # another process died that death
                (folder / f"died.{k}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    def make(batch, on_step):
        made, failures = [], []
        for item in batch:
            on_step(1)
            if item.mask.name == deadly:
                die()
            if item.mask.name == "unreadable":
                failures.append(UserError(item.mask, "cannot be read"))
            elif item.mask.name == "no space":
                raise UserError(item.result, "cannot be written")
            elif item.mask.name == "full":
                raise OSError(errno.ENOSPC, "No space left", str(item.result))
            elif item.mask.name == "no compiler":
                raise RuntimeError("Run cmd failed: g++: fatal error: Killed signal")
            else:
                item.result.write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
                made.append(item)
            on_step(STEPS - 1)
        return made, failures

    if at_start:
        die()
    return make


def deaf():
    """A `load` for a worker that no SIGTERM ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def run(folder, names, processes=2, batch_size=1, **options):
    """-> (the plan afterwards, what each of its yields was, all that on_step was told)."""
    plan = Plan([Item(Path(name), Path(name), folder / f"{name}.txt") for name in names], [], [])
    told, dealt = [], []
    for count in workers.run(plan, partial(stand_in, folder, **options), batch_size,
                             [{"OMP_NUM_THREADS": str(k)} for k in range(processes)], STEPS, told.append):
        dealt.append(count)
    return plan, dealt, sum(told)


NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("processes, batch_size", [(1, 2), (7, 1)])
def test_every_item_once(tmp_path, processes, batch_size):
    plan, dealt, told = run(tmp_path, NAMES, processes, batch_size)
    assert sorted(item.mask.name for item in plan.done) == NAMES and plan.failures == []
    assert sum(dealt) == 5 and max(dealt) <= batch_size and told == 5 * STEPS
    made_by = {(tmp_path / f"{name}.txt").read_text() for name in NAMES}
    assert all(pid_and_threads.split()[0] != str(os.getpid()) for pid_and_threads in made_by)
    assert {text.split()[1] for text in made_by} <= {str(k) for k in range(processes)}


def test_a_dead_workers_images_are_made_by_others(tmp_path):
    plan, dealt, told = run(tmp_path, NAMES, batch_size=3, deadly="b", times=1)
    assert sorted(item.mask.name for item in plan.done) == NAMES and plan.failures == []
    assert sum(dealt) == 5 and told == 5 * STEPS


@pytest.mark.parametrize("processes, batch_size", [(1, 5), (2, 1)])
def test_an_image_that_always_kills_is_a_failure_and_the_others_are_made(tmp_path, processes, batch_size):
    plan, dealt, told = run(tmp_path, NAMES, processes, batch_size, deadly="b", times=99)
    assert sorted(item.mask.name for item in plan.done) == ["a", "c", "d", "e"]
    assert [str(failure) for failure in plan.failures] == [
        "b: ended its process 2 times, the last time by SIGKILL; the others were made without it"]
    assert sum(dealt) == 5 and told == 5 * STEPS and len(list(tmp_path.glob("died.*"))) == 2


def test_unreadable_images_are_failures_as_in_one_process(tmp_path):
    plan, dealt, told = run(tmp_path, ["a", "unreadable", "c"], batch_size=2)
    assert sorted(item.mask.name for item in plan.done) == ["a", "c"]
    assert [str(f) for f in plan.failures] == ["unreadable: cannot be read"] and (sum(dealt), told) == (3, 9)


@pytest.mark.parametrize("name, message", [
    ("no space", "no space.txt: cannot be written"), ("full", "full.txt: .*; free some space"),
    ("no compiler", "Killed signal.*; free some memory")])
def test_what_ends_one_process_ends_all(tmp_path, name, message, capfd):
    with pytest.raises(UserError, match=message):
        run(tmp_path, ["a", name, "c"])
    assert capfd.readouterr().err == ""


def test_deaths_before_any_work(tmp_path):
    plan, *_ = run(tmp_path, NAMES, at_start=True, times=2)
    assert len(plan.done) == 5 and plan.failures == []
    with pytest.raises(UserError, match="worker processes: end before they work, the last one by SIGKILL"):
        run(tmp_path, NAMES, at_start=True, times=99)


def test_deaths_at_every_image_end_the_job(tmp_path):
    """As with a broken driver: not two starts of the model for each of a thousand images."""
    with pytest.raises(UserError, match="worker processes: 10 in a row .*SIGKILL"):
        run(tmp_path, ["b"] * 1000, deadly="b", times=9999)
    assert len(list(tmp_path.glob("died.*"))) < 15


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    worker = workers.Worker(deaf, {})
    assert worker.pipe.recv() == ("ready", None)
    assert worker.stop() == "by SIGKILL" and not worker.process.is_alive()


def test_cores_and_devices_are_shared_out(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert workers.cores(4) == [{"OMP_NUM_THREADS": "1"}] * 4
    assert workers.cores(2) == [{"OMP_NUM_THREADS": "3"}] * 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert workers.cores(1) == [{"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}]
    monkeypatch.setattr(platform_devices, "present_devices", lambda: [str(i) for i in range(8)])
    monkeypatch.delenv("nvcc_path", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    assert [e["CUDA_VISIBLE_DEVICES"] for e in workers.devices(2)] == ["5", "3"]
    for visible, there in (("5,3", 2), ("", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(UserError, match=f"--gpus: is 3; {there} are here"):
            workers.devices(3)


# ---- the tool ----------------------------------------------------------------------------------------------

def results(folder):
    return {p.name: images.read_image(p) for p in folder.glob("m*.png")}


def errors(text):
    return [line for line in text.splitlines() if line.startswith("error: ")]


def worker_numbers(process):
    """The process numbers of a tool's workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(n) for n in children if b"--multiprocessing-fork" in command_of(n)]


def command_of(number):
    """The command line of a process; b"" if it has just ended, such as a compiler."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def start_two(arguments, output, threads):
    """The tool in two processes that have half of `threads` each."""
    command = [sys.executable, ROOT / "tools/infer.py", *map(str, arguments), "--output", output,
               "--processes", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                            # a job in the background, as these tests may be, hands on that SIGINT is ignored
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(condition, process):
    deadline = time.time() + 300
    while not condition() and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)


def test_the_tool_in_two_processes(tmp_path):
    """A worker is killed, a mask cannot be read: the same results, errors and status as of one process that
    has as many threads as a worker (their number decides the last bits of sums)."""
    (tmp_path / "model").mkdir()
    model, pairs = make_model(tmp_path / "model"), make_pairs(tmp_path / "in", 6)
    (pairs / "masks/m3.png").write_bytes(b"no image")
    arguments = ["--model", model, "--rounds", model / "rounds.yaml", "--masks", pairs / "masks",
                 "--references", pairs / "references", "--format", "png"]
    one = start_tool("infer", *arguments, "--output", tmp_path / "one", env={"OMP_NUM_THREADS": "1"})
    two = start_two(arguments, tmp_path / "two", threads=2)
    wait_for(lambda: results(tmp_path / "two"), two)
    os.kill(worker_numbers(two)[0], signal.SIGKILL)
    out, err = two.communicate()
    assert (one.returncode, two.returncode) == (2, 2) and "5 images in" in out, err
    assert errors(one.stderr) == errors(err) and "m3.png" in errors(err)[0] and len(errors(err)) == 2
    made = results(tmp_path / "one")
    assert len(made) == 5 and results(tmp_path / "two").keys() == made.keys()
    assert all(np.array_equal(picture, made[name]) for name, picture in results(tmp_path / "two").items())
    standing = run_tool("infer", *arguments, "--output", tmp_path / "two", "--processes", 2)
    assert "1 to make, 5 exist already" in standing.stdout and standing.returncode == 2


def test_an_interrupt_waits_for_the_start_of_a_process():
    """Also one that the system gives to another thread, such as a library's, which does not block it."""
    released, reached = threading.Event(), []
    thread = threading.Thread(target=released.wait)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)      # a job in the background has none
    try:
        with pytest.raises(KeyboardInterrupt), workers.interrupts_held():
            signal.pthread_kill(thread.ident, signal.SIGINT)
            time.sleep(0.1)
            reached.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        assert signal.SIGINT in reached[0]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        released.set()


def test_an_interrupt_ends_all(tmp_path):
    """With the demo model on its samples, which takes minutes."""
    process = start_two([], tmp_path, threads=2)
    wait_for(lambda: len(worker_numbers(process)) == 2, process)
    numbers = worker_numbers(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130 and err.strip().endswith("interrupted") and "Traceback" not in err, err
    assert len(numbers) == 2 and not any(Path(f"/proc/{n}").exists() for n in numbers)


def test_refused_numbers():
    one_error(run_tool("infer", "--processes", 0), "--processes", "1 to")
    one_error(run_tool("infer", "--gpus", 0), "--gpus", "1 to")
