"""Serves calls: runs node code, interrupts it, and sends its results or failures."""
