"""Text that a foreign host wrote, made fit to be stored and told."""


def foreign_text(raw: str, characters: int) -> str:
    """Cut a text, and put a question mark for what stands for bytes that are no UTF-8.

    aiohttp keeps such bytes of a head as halves of surrogate pairs (PEP 383), in headers and in
    the texts of its errors; encoding one of these raises.
    """
    return raw[:characters].encode("utf-8", "replace").decode()
