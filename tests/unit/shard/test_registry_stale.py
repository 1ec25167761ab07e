"""A session whose epoch the store does not know any more, and of which no hint tells.

Another one has displaced it; or the store has lost its last changes with its primary, and with them
that the device had connected. A device that was told to stay away would do so for ever.
"""

from router.store import keys
from tests.unit.shard.parts import Parts


async def test_it_hears_of_it_with_its_next_message_to_the_app_server(parts: Parts) -> None:
    device, socket = await parts.device()
    await parts.stages.attach(device, await parts.stages.shard())
    socket.says(op="send", id="r1", data={})
    assert (await socket.hear("error"))["ref"] == "r1"
    assert await socket.closed() == 1013


async def test_a_device_whose_connection_the_store_has_forgotten_is_to_connect_again(
    parts: Parts,
) -> None:
    device, socket = await parts.device()
    mailbox = keys.mailbox(device.device_id)
    await parts.stages.store.batch.call("HSET", mailbox, "ep", 0)
    socket.says(op="send", id="r1", data={})
    assert (await socket.hear("error"))["ref"] == "r1"
    assert await socket.closed() == 1013
