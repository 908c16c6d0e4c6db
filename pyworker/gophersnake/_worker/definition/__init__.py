"""The node as its author wrote it: its code, its signature, its description."""
