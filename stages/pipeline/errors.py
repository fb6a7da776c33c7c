"""The error that a person can repair."""


class UserError(Exception):
    """Bad input or a bad environment, described in one line: what is wrong, where, and what to do."""
