"""It raises while it is imported."""

raise RuntimeError("not today")
