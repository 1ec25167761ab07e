from router.store.connection import Store


async def test_check_names_the_server(store: Store) -> None:
    info = await store.check()
    assert info.server == "valkey"
