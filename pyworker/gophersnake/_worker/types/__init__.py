"""The types of a node's annotations: their JSON Schemas, and values built as annotated.

``hints`` reads annotations into objects of class ``Type``: those of ``kinds``,
``texts``, ``containers``, ``records``, ``arrays``, ``libraries`` and ``foreign``. A ``Type``
states its schema, builds a value from what arrived, and writes what the encoder does not know.
``ports`` chooses how that is done for the ports of one node, once, when it is set up.
"""
