"""The one exception that means "the user can fix this"; it ends in a single line on stderr and exit code 2."""


class UserError(ValueError):
    """A problem of input or configuration; the message says what is wrong, where it was found and what to do."""
