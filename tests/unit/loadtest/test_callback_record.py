"""The record of callbacks tells what is missing, what came twice, and which ids changed."""

import asyncio

import msgspec

from loadtest.callback_record import CallbackRecord, Receipt, recording

ONE = Receipt("m1", "delivered", "d1")
TWO = Receipt("m2", "accepted")


def body(*receipts: Receipt) -> bytes:
    return msgspec.json.encode({"type": "message.receipts", "data": {"receipts": receipts}})


def test_what_was_never_told_is_missing() -> None:
    record = CallbackRecord()
    record.take("a", body(ONE))
    assert record.missing([ONE, TWO]) == [TWO]
    record.take("b", body(TWO))
    assert record.missing([ONE, TWO]) == []


def test_a_callback_that_comes_again_with_its_id_tells_nothing_twice() -> None:
    record = CallbackRecord()
    record.take("a", body(ONE))
    record.take("a", body(ONE))
    assert (record.requests, record.callbacks, record.doubled(), record.changed) == (
        2,
        1,
        [],
        set(),
    )
    record.take("b", body(ONE))
    assert record.doubled() == [ONE]


def test_an_id_whose_content_changes_is_noticed() -> None:
    record = CallbackRecord()
    record.take("a", body(ONE))
    record.take("a", body(TWO))
    assert record.changed == {"a"}


async def test_requests_are_taken_off_a_connection_one_after_another() -> None:
    async with recording() as (url, record):
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for name, content in (("a", body(ONE)), ("b", body(TWO))):
            head = (
                f"POST / HTTP/1.1\r\nWebhook-Id: {name}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content)
        answers = await reader.readexactly(2 * len(b"HTTP/1.1 204 No Content\r\n\r\n"))
        writer.close()
    assert answers.count(b"204 No Content") == 2
    assert record.missing([ONE, TWO]) == []
