"""A well-formed token, for requests that are only parsed."""

from router.model.ids import new_device_id, new_token

TOKEN = str(new_token("local", new_device_id(b"0123456789"), b"9876543210"))
