"""Imports Jittor in a child process, which compiles its core, and finds out why an import failed."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

from ldm.errors import UserError
from ldm.platform import damage, jittor_copy, precompiled, reuse
from ldm.platform.cache import REMEDY, cache_folder, check_cache
from ldm.platform.compilers import check_compilers, compiler, remedy

PATIENCE = 5                    # seconds that an import may take before the notice is printed
PROBE = """import sys
import jittor_utils
print('\\njittor compiles in', jittor_utils.cache_path, flush=True)
sys.path.append(sys.argv[1])
from ldm.platform.trial_import import shorten
shorten(jittor_utils)
import jittor
print('\\njittor is ready in', jittor.compiler.cache_path)
"""


def shorten(jittor_utils: Any) -> None:
    """Let the import of Jittor that follows in this process compile in less time.

    Another version of Jittor, without these functions, compiles as it does.
    """
    cache = Path(jittor_utils.cache_path)
    if not os.environ.get("nvcc_path"):             # nobody has tried these two with CUDA
        reuse.take_over(cache, Path(jittor_utils.__file__).parents[1] / "jittor")
        if hasattr(jittor_utils, "run_cmds"):
            precompiled.precompile_core(jittor_utils, cache)
    if hasattr(jittor_utils, "get_total_mem"):
        # Jittor starts a compiler for each 3 GB of memory: on few cores they only push each other out of the
        # caches.
        memory = jittor_utils.get_total_mem
        jittor_utils.get_total_mem = lambda: min(memory(), (os.cpu_count() or 1) * 3 << 30)


class TrialImport:
    """One import of Jittor in a child process.

    compiles: the folder that it compiles into; ready: the same folder if the import succeeded; both may be
    None. output: everything that the child printed. killed: whether it died from a signal.
    """

    def __init__(self, choice: jittor_copy.Choice, notice: Callable[[], None]) -> None:
        # Without MPI's variables, or the child would join an MPI run as a second process of the same rank.
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
        with jittor_copy.importable(choice) as more:
            self._child = subprocess.Popen(
                [sys.executable, "-u", "-c", PROBE, Path(__file__).parents[2]],
                env={**environment, **more, **jittor_copy.home_variables(), "log_silent": "0"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = ""
        self._follow(notice)
        self.ready, self.compiles = self._folder("is ready"), self._folder("compiles")
        self.killed = self._child.returncode < 0 or bool(re.search("Caught segfault|Get signal", self.output))

    def _follow(self, notice):
        """Read the child's output to its end; on a terminal, show the count of compiled files."""
        timer, shown = threading.Timer(PATIENCE, notice), None
        timer.start()
        while chunk := self._child.stdout.read1(65536):
            self.output += chunk.decode(errors="replace")
            counts = re.findall(r"Compiling \S+\((\d+/\d+)\)", self.output[-2000:])
            if counts and counts[-1] != shown:
                shown = counts[-1]
                notice()
                if sys.stderr.isatty():
                    print(f"\r{shown} files ", end="", file=sys.stderr, flush=True)
        self._child.wait()
        timer.cancel()
        if shown and sys.stderr.isatty():
            print(file=sys.stderr)

    def _folder(self, words):
        found = re.search(f"^jittor {words} in (.+)$", self.output, re.MULTILINE)
        return Path(found[1].strip()) if found else None


class Notice:
    """Prints its text at the first call only; never if it is None."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __call__(self) -> None:
        text, self.text = self.text, None
        if text:
            print(text, file=sys.stderr, flush=True)


def repair(child: TrialImport) -> bool:
    """Remove damaged files of the cache after `child` failed. Returns whether any were found."""
    if child.compiles is None:
        return False
    removed = damage.remove_damaged(child.compiles)
    if child.killed and not removed:
        removed = [path for path in child.compiles.rglob("*.so") if "core" in path.name]
        for path in removed:
            damage.remove_compiled(path)
    report_damage(removed, "compiling Jittor's core again, about 3 minutes ...")
    return bool(removed)


def report_damage(removed: list[Path], what_now: str) -> None:
    """Print the damaged files that were removed, and what happens now."""
    if removed:
        more = f" and {len(removed) - 1} more files" if removed[1:] else ""
        print(f"{removed[0]}{more}: damaged in Jittor's cache; {what_now}", file=sys.stderr, flush=True)


def failure(output: str, fault: str = "does not start") -> UserError:
    """The error to raise if Jittor does not start or has another `fault`. The cause is looked for in its
    output, in the cache and in the compilers."""
    plain = re.sub(r"\x1b\[[\d;]*[mK]", "", output)
    words = " ".join(plain.split())
    if found := re.search("No space left on device|Disk quota exceeded|Read-only file system", words):
        return UserError(cache_folder(), f"cannot be written ({found[0]})", REMEDY)
    try:
        check_cache()
        check_compilers()
    except UserError as e:
        return e
    # The compiler's first error explains more than the long command at the end of Jittor's message.
    first = re.search(r"^.*\b(?:fatal )?error: .*$", plain, re.MULTILINE)
    reason = " ".join(first[0].split())[:300] if first else words[-300:]
    if what_to_do := remedy(reason):
        return UserError(compiler(), f"ended before its work was done (... {reason})", what_to_do)
    return UserError("jittor", f"{fault} (... {reason})",
                     f"run `python tools/doctor.py`; if nothing is missing, delete {cache_folder()}")
