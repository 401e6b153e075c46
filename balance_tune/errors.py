"""The one exception that means: the user can fix this."""


class UserError(ValueError):
    """A user's mistake, in one line: the rule, the value, and what to do.

    The command line prints the message and exits with status 2; a program sees an ordinary `ValueError`.
    """
