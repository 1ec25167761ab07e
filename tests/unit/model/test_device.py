"""A device, and where a bridge reaches it."""

from router.model.device import NO_CONTACT, Contact


def test_a_contact_is_stored_with_its_bridge_and_time() -> None:
    assert Contact("apns", '{"token":"ab|cd"}', 5, 9).field == 'apns|5|{"token":"ab|cd"}'


def test_a_contact_does_not_show_its_address() -> None:
    assert repr(Contact("apns", "secret", 5, 9)) == "<Contact by apns>"
    assert not NO_CONTACT.stale_ms
