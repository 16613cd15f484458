"""The one kind of exception that a user can cause."""


class UserError(Exception):
    """What a user can mend: `subject` is the file or option, `problem` its fault, `allowed` what is right.

    Tools print it as one line `error: subject: problem, allowed` and end with status 2.
    """

    def __init__(self, subject, problem, allowed=None):
        super().__init__(f"{subject}: {problem}" + (f", {allowed}" if allowed else ""))
