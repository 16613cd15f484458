"""What tools print and how they end: names that could act on a terminal, streams that are closed, what the
machine refuses. No Jittor."""
import errno
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import cli  # noqa: E402
import terminal  # noqa: E402

from ldm.errors import UserError  # noqa: E402


@pytest.mark.parametrize("text, shown", [
    ("风景.png", "风景.png"), ("é　x", "é　x"), ("a\x1b[31mb", "a\\x1b[31mb"), ("\x9b0m", "\\x9b0m"),
    ("a\u202egnp.exe", "a\\u202egnp.exe"), ("\udcb7\udce7.png", "\\xb7\\xe7.png"),
    ("a\x07\x00\x7f", "a\\x07\\x00\\x7f"), ("a\n\tb", "a\n\tb"),
    ("\U000e0041", "\\U000e0041"), ("\ud800", "\\ud800")])
def test_only_letters_reach_the_terminal(text, shown):
    assert terminal.printable(text) == shown
    shown.encode()


def test_a_line_is_one_and_has_an_end():
    assert terminal.line("a\nb\r\n c\u2028d\x1c") == "a b c d"
    long = terminal.line("x" * 300 + "end of it")
    assert len(long) < 220 and long.startswith("x" * 100) and long.endswith("end of it")
    assert len(terminal.line("word " * 5000)) <= terminal.LINE


def ended(capsys, error):
    """(status, standard error) of a tool whose main raises `error`."""
    def main(argv):
        raise error
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def test_errors_of_the_user_are_one_printable_line(capsys):
    status, err = ended(capsys, UserError("a\x1b]0;x\x07\nb", "is " + "9" * 5000, "less", ["one\x1b", "two"]))
    assert status == 2 and err.count("\n") == 3 and "\x1b" not in err and "\x07" not in err and len(err) < 400
    assert ended(capsys, UserError("", "is no file"))[1] == "error: '': is no file\n"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC,
                                    errno.EMFILE])
def test_what_the_machine_refuses_is_one_line(capsys, number):
    status, err = ended(capsys, OSError(number, os.strerror(number), "some/path"))
    assert status == 2 and err.startswith("error: some/path: cannot be used (") and err.count("\n") == 1
    assert ended(capsys, OSError(number, os.strerror(number)))[1].startswith("error: the computer: ")


def test_memory_that_is_used_up_is_one_line(capsys):
    status, err = ended(capsys, MemoryError("Unable to allocate 9. GiB"))
    assert status == 2 and err.startswith("error: memory: is used up (Unable to") and err.count("\n") == 1


def test_a_broken_pipe_that_is_not_standard_output_is_an_error(capsys):
    status, err = ended(capsys, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert status == 1 and "BrokenPipeError" in err


@pytest.mark.parametrize("given", [[""], ["--output", ""], ["--output="], ["--output", " "],
                                   ["--output=\t"]])
def test_an_empty_argument_is_refused(capsys, given):
    parser = cli.Parser(prog="tool")
    parser.add_argument("--output")
    parser.add_argument("overrides", nargs="*")
    with pytest.raises(SystemExit) as end:
        parser.parse_args(given)
    assert end.value.code == 2 and "is empty" in capsys.readouterr().err
    assert parser.parse_args(["key="]).overrides == ["key="]


def test_assignments_may_stand_anywhere(capsys):
    parser = cli.Parser(prog="tool")
    parser.add_argument("--output", required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args(["a=1", "--output", "o", "b=2", "c.d=3", "--count", "4", "e=5"])
    assert (args.overrides, args.output, args.count) == (["a=1", "b=2", "c.d=3", "e=5"], "o", 4)
    for given, words in ((["a=1", "--no", "--output", "o", "b=2"], "--no"), (["a=1"], "required: --output"),
                         (["a=1", "--output", "o", "b=2", "--count", "x"], "invalid int value: 'x'")):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(given)
        err = capsys.readouterr().err
        assert end.value.code == 2 and words in err and err.count("\n") == 1


@pytest.mark.parametrize("name, value", [("OMPI_COMM_WORLD_RANK", "x"), ("OMP_NUM_THREADS", "²"),
                                         ("OMP_NUM_THREADS", "100000"),
                                         ("log_v", "abc"), ("IIDM_RESTARTS", "x")])
def test_variables_that_are_no_numbers(name, value):
    done = shell(f'{name}={value} "$PY" -c "$TOOL"')
    assert done.returncode == 2 and done.stderr.startswith(f"error: {name}: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_was_removed(tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell('cd gone; rmdir ../gone; "$PY" -c "$TOOL"', cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: the current folder: cannot be used (")
    assert done.stderr.count("\n") == 1


def test_numpys_warning_about_jittors_arithmetic_is_no_message():
    done = shell('"$PY" -c "$TOOL"', "__import__('warnings').warn(\"The value of the smallest subnormal for "
                 "<class 'numpy.float64'> type is zero.\")")
    assert (done.returncode, done.stderr) == (0, "")


def shell(text, code="print('made'); open('made', 'w')", **options):
    """A shell command with $TOOL, a tool that runs `code`."""
    tool = f"import sys\nsys.path.insert(0, {str(ROOT / 'tools')!r})\nimport cli\n"
    tool += f"def main(argv): {code}\ncli.run(main)"
    return subprocess.run(["bash", "-c", text], text=True, capture_output=True, timeout=60,
                          env={**os.environ, "TOOL": tool, "PY": sys.executable}, **options)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    done = shell(f'"$PY" -c "$TOOL" {closed}', cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert (tmp_path / "made").read_bytes() == b""          # and nothing that was printed is in it


def test_nobody_reads_any_more(tmp_path):
    done = shell('"$PY" -c "$TOOL" | true; echo ${PIPESTATUS[0]}', "[print('x' * 1000) for _ in range(1000)]")
    assert done.stdout.strip() == "0" and done.stderr == ""


def test_names_are_printed_in_any_locale():
    done = shell('LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 "$PY" -c "$TOOL"',
                 "print(chr(0xe9) + chr(0xdcb7) + chr(27))")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, r"\xe9\xb7\x1b", "")


@pytest.mark.parametrize("limit", [5, 8, 12])
def test_few_open_files(limit):
    done = shell(f'ulimit -n {limit}; "$PY" -c "$TOOL"', "[open('/dev/null') for _ in range(99)][99]")
    assert "Traceback" not in done.stderr and "ulimit" in done.stderr


def test_semaphores_of_a_killed_worker_are_no_message():
    """os._exit leaves a semaphore behind, as a kill does; Python's helper removes it after this process."""
    program = ("import os, sys; sys.path.insert(0, 'tools'); {}import multiprocessing as m; "
               "lock = m.get_context('spawn').Lock(); os._exit(0)")
    said = [subprocess.run([sys.executable, "-c", program.format(first)], cwd=ROOT, text=True,
                           capture_output=True).stderr for first in ("", "import cli; ")]
    assert "leaked semaphore" in said[0] and said[1] == ""
