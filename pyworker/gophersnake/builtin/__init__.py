"""The built-in node types that keep a state along a stream.

A manifest names them by their node type, without ``python:``. The types are those of the
RemoteMedia SDK; the guide on built-in nodes lists their params and what differs. They are
ordinary classes, which tests can use without a supervisor.
"""
