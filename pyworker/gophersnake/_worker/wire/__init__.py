"""The protocol's frames, and the connection that carries them.

``frames`` has the binary format, ``connection`` receives and ``outbox`` sends, and
``begun`` counts the frames that were handed to node code.
"""
