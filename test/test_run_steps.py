"""Commands as one run: what failed, what was cut off, what is done, and the report of it all."""
import sys
import time

import numpy as np
import pytest
from tiny import one_error, run_tool

from ldm import images
from ldm.benchmark import run_steps
from ldm.benchmark.run_steps import Step
from ldm.platform.devices import present_devices


def python(name, text, limit=20, **options):
    return Step(name, [sys.executable, "-c", text], limit, **options)


def results(outcomes):
    return {outcome.name: outcome.result for outcome in outcomes}


def test_a_failing_step_stops_no_other(tmp_path):
    steps = [python("bad", "import sys; print('error: a: is wrong; fix it', file=sys.stderr); sys.exit(2)"),
             python("slow", "import time; print('begun', flush=True); time.sleep(60)", limit=1),
             Step("absent", ["true"], 9, needs="no-such-program"),
             python("good", "import os; print(os.environ['A'])", environment={"A": "hello"}, shown=True)]
    outcomes = run_steps.run(steps, tmp_path, 60, lambda text: None)
    assert results(outcomes) == {"bad": "failed", "slow": "too long", "absent": "not possible",
                                 "good": "done"}
    text = run_steps.report("Title", {"cpu": "x"}, [*steps, python("later", "")], outcomes,
                            {"a and b": "same"}, tmp_path)
    assert "| bad | failed |" in text and "error: a: is wrong; fix it" in text
    assert "| later | not reached" in text
    assert "no-such-program" in text and "* a and b: same" in text and "```\nhello\n```" in text


def test_output_is_as_a_terminal_shows_it(tmp_path):
    (tmp_path / "x.log").write_bytes(b"\x1b[31merror: a: is\x1b[m wrong\r\n 10 %\r 90 %\n\xff\n")
    assert run_steps.output(tmp_path / "x.log") == "error: a: is wrong\n 90 %\n\ufffd"
    assert run_steps.last_words(tmp_path / "x.log") == "error: a: is wrong"


def test_what_is_done_is_not_done_again(tmp_path):
    mark = tmp_path / "mark"
    mark.write_text("")
    steps = [python("counts", f"import sys, pathlib; p = pathlib.Path({str(mark)!r}); "
                              "n = len(p.read_text()); p.write_text('x' * (n + 1)); sys.exit(n == 0)")]
    for expected in ("failed", "done", "done"):
        assert results(run_steps.run(steps, tmp_path, 60, lambda text: None)) == {"counts": expected}
    assert len(mark.read_text()) == 2


def test_the_time_ends(tmp_path):
    begin = time.monotonic()
    steps = [python("long", "import time; time.sleep(60)"), python("next", "")]
    outcomes = run_steps.run(steps, tmp_path, 1, lambda text: None)
    assert results(outcomes) == {"long": "too long"} and time.monotonic() - begin < 30


def test_images_are_compared(tmp_path):
    picture = np.full((4, 4, 3), 100, np.uint8)
    for folder, value in (("a", 100), ("b", 103)):
        picture[0, 0, 0] = value
        images.write_image(tmp_path / folder / "x.png", picture)
        images.write_image(tmp_path / folder / "y.png", np.zeros((4, 4, 3), np.uint8))
    text = run_steps.compared(tmp_path / "a", tmp_path / "b")
    assert text.startswith("1 of 2 files equal") and "by 3 of 255" in text and "PSNR" in text
    assert run_steps.compared(tmp_path / "a", tmp_path / "c") == "nothing to compare"


@pytest.mark.skipif(bool(present_devices()), reason="there is a GPU")
def test_the_check_wants_a_gpu(tmp_path):
    one_error(run_tool("gpu_check", "--output", tmp_path / "out"), "GPU")
    assert not (tmp_path / "out").exists()
