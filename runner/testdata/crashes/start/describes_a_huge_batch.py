from gophersnake import node
from gophersnake._worker.definition.signature import Signature

honest = Signature.describe


def huge(self: Signature) -> dict:
    return honest(self) | {"batch": 1 << 62}


Signature.describe = huge


@node
def It(_: object) -> None: ...
