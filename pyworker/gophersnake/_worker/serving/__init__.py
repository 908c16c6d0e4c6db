"""Serves calls: runs node code, cancels it, and sends results, items and errors.

There are two loops. ``frameloop`` serves one frame after another, and passes calls to the
handler for the kind of node: in ``calls``, ``sessions`` or ``batches``. ``eventloop`` serves
async nodes, whose calls run concurrently. Both send with ``answers``. ``invoker`` runs node
code, which ``interrupts`` can cancel; ``items`` sends the values of generators; ``failure``
turns exceptions into error frames.
"""
