"""What `attach` and `fetch` give of a mailbox."""

from typing import cast

from router.model.ids import MessageId, told_as
from router.model.mailbox import Pending, Window
from router.store.link import Reply


def read_window(reply: list[Reply]) -> Window:
    """Read a window: head, more, drops, then member, seq and frame of each message."""
    head, more, dropped, *rest = reply
    messages = []
    for member, seq, frame in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        message, expires, _ = cast("bytes", member).split(b"|", 2)
        messages.append(
            Pending(
                seq=int(cast("bytes", seq)),
                message=told_as(MessageId(message.decode())),
                expires_ms=int(expires),
                frame=cast("bytes", frame),
            )
        )
    return Window(
        tuple(messages), head=cast("int", head), more=bool(more), dropped=cast("int", dropped)
    )
