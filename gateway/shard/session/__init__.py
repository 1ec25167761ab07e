"""The session of one device's connection: a state machine without I/O.

`machine` takes frames, answers and hints; `delivery` decides which message goes out when. States,
inputs, actions and the table of transitions stand in `gateway.shard.events`.
"""

from gateway.shard.session.machine import Session

__all__ = ["Session"]
