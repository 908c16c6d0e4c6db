"""It needs a name that is not there."""

from os import no_such_name  # noqa: F401
