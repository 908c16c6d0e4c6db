"""The worker process: its start, its limits, its logs, and what it leaves when it ends."""
