"""Tests of the package: of its modules, and of real workers over real sockets."""
