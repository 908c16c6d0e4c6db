from gophersnake import node


@node
def double(x: float, factor: float = 2.0) -> float:
    return x * factor
