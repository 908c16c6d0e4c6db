"""Runs the worker from a folder that holds the package, installed or not."""

from gophersnake.__main__ import main

if __name__ == "__main__":
    main()
