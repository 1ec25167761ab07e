"""A session that was displaced, and whose hint of it was lost."""

from tests.unit.shard.parts import Parts


async def test_it_hears_of_it_with_its_next_message_to_the_app_server(parts: Parts) -> None:
    device, socket = await parts.device()
    await parts.stages.attach(device, await parts.stages.shard())
    socket.says(op="send", id="r1", data={})
    assert (await socket.hear("error"))["ref"] == "r1"
    assert await socket.closed() == 4002
