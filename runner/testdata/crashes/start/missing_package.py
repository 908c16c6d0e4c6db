"""It needs a package that is not installed."""

import no_such_package  # noqa: F401
