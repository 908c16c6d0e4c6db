"""The definition of a node: its code, its signature and its description.

``lookup`` imports the code, ``signature`` inspects it and checks it against the manifest,
``param_types`` checks single params, and ``describe`` is the command that prints it all.
"""
