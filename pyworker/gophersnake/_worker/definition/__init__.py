"""The definition of a node: its code, its signature and its description.

``lookup`` imports the code, ``signature`` inspects it and checks it against the manifest,
and ``describe`` is the command that prints it all.
"""
