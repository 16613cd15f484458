"""The exception for everything that a user can cause."""
from __future__ import annotations

from typing import Iterable, Optional


class UserError(Exception):
    """An error that the user can fix.

    subject: the file or option. problem: what is wrong with it. remedy: what to do. details: further lines,
    where one check finds many faults. Tools print the details, then `error: subject: problem; remedy`, and
    exit with status 2.
    """

    def __init__(self, subject: object, problem: str, remedy: Optional[str] = None,
                 details: Iterable[str] = ()) -> None:
        super().__init__(subject, problem, remedy, details)       # unchanged, so that it can be pickled
        self.details = tuple(details)

    def __str__(self) -> str:
        subject, problem, remedy, _ = self.args
        subject = str(subject) or "''"                            # an empty option is quoted to be visible
        return f"{subject}: {problem}" + (f"; {remedy}" if remedy else "")
