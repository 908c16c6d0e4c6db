"""It exits while it is imported."""

import sys

sys.exit(9)
