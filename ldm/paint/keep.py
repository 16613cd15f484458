"""Writes results to the disk, for `--keep`: a folder for each, with everything it was made from."""
from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Sequence

from ldm.paint import bundle
from ldm.paint.store import Result


class Keeper:
    """Writes results into `folder`, beside the event loop. problem: why the last one is not there, or ""."""

    def __init__(self, folder: Path, size: tuple[int, int], model: str) -> None:
        self.folder, self.size, self.model, self.problem = folder, size, model, ""

    def write_later(self, results: Sequence[Result]) -> None:
        loop = asyncio.get_running_loop()
        for result in results:
            loop.run_in_executor(None, self.write, result)

    def write(self, result: Result) -> None:
        """Write the bundle as a folder, under a temporary name until it is complete. A full disk stops
        nothing: the result stays in memory, and `problem` says what to do."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{result.id[:8]}"
        unfinished = self.folder / f".{name}.tmp"
        try:
            for path, data in bundle.contents(result, self.size, self.model).items():
                (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / path).write_bytes(data)
            os.rename(unfinished, self.folder / name)
            self.problem = ""
        except OSError as e:
            shutil.rmtree(unfinished, ignore_errors=True)
            self.problem = f"{self.folder}: cannot be written ({e.strerror or e}); free some space"
