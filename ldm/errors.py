"""The one kind of exception that a user can cause."""


class UserError(Exception):
    """What a user can mend: `subject` is the file or option, `problem` its fault, `allowed` what is right.

    Tools print it as one line `error: subject: problem; allowed` and end with status 2. Where one look finds
    many faults, `details` are their texts, which tools print before, a line each.
    """

    def __init__(self, subject, problem, allowed=None, details=()):
        super().__init__(subject, problem, allowed, details)      # as given: pickled so between processes
        self.details = tuple(details)

    def __str__(self):
        subject, problem, allowed, _ = self.args
        subject = str(subject) or "''"                            # an empty option has a name to point at too
        return f"{subject}: {problem}" + (f"; {allowed}" if allowed else "")
