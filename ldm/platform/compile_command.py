"""How Jittor compiles an operator: in half of the time, and with one command however Python was started.

Jittor lets g++ write assembly code with debugging information, gives that to a Python program that edits it
(asm_tuner.py), and assembles the result. Few operators ask for an edit. For the others g++ alone makes the
same machine code.
"""
from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.files import replacing

# Called as PYTHON asm_tuner.py --cc_path=COMPILER SOURCE OPTION...; edits are between @begin and @end.
SCRIPT = """\
case $2 in */asm_tuner.py)
    if ! grep -q @begin "$4"; then
        compiler=${3#--cc_path=}
        shift 3
        exec "$compiler" "$@"
    fi ;;
esac
exec "$@"
"""


def interpreter() -> str:
    """This Python by the name python3.N, if it has it: the same however it was started."""
    path = Path(sys.executable).with_name(f"python3.{sys.version_info.minor}")
    return str(path if path.is_file() else sys.executable)


def install(jt: Any) -> None:
    """Let Jittor's commands for operators name `interpreter()`, and run it only for an edit.

    Jittor keeps the commands, and compiles an operator again when its command differs: `python` after
    `python3` would compile all of them. The script lies in the cache, the same for every copy of the project.
    Where it cannot be written, or for another compiler than g++, Jittor compiles in its own way.
    """
    jt.flags.python_path = interpreter()
    if getattr(jt.compiler, "cc_type", None) != "g++":
        return
    script = Path(jt.compiler.cache_path) / "iidm/compile.sh"
    with contextlib.suppress(OSError, UserError):
        script.parent.mkdir(exist_ok=True)
        if not script.exists() or script.read_text() != SCRIPT:
            with replacing(script) as temporary:
                temporary.write_text(SCRIPT)
        jt.flags.python_path = f'/bin/sh "{script}" {interpreter()}'
