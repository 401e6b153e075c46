"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A user's mistake, told in one line: the rule, the value, and what to do.

    The command line prints the message and exits with status 2; a program sees an ordinary `ValueError`.
    """
