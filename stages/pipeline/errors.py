"""Errors that a person can repair."""


class UserError(Exception):
    """Bad input or a bad environment, described in one line: what is wrong, where, and what to do."""


class ProcessDiedError(UserError):
    """The end of a process that trained together with this one, which is the consequence of another error."""
