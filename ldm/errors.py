"""The one kind of exception that a user can cause."""


class UserError(Exception):
    """Something the user can mend: `subject` is the file or option, `problem` what is wrong with it, `allowed` what is.

    Tools print it as one line `error: subject: problem, allowed` and end with status 2.
    """

    def __init__(self, subject, problem, allowed=None):
        super().__init__(f"{subject}: {problem}" + (f", {allowed}" if allowed else ""))
