"""What connections take: memory of shards, simulators, kernel and machine at two moments."""

import contextlib
from collections.abc import Sequence

import msgspec

from loadtest.machine import kernel_bytes, used_bytes
from loadtest.processes import memory_bytes
from loadtest.run.samples import Sampler


class Footprint(msgspec.Struct, frozen=True):
    """Bytes at a moment."""

    shards: int
    """Proportional set size of all of them; 0 where they are not seen."""
    simulators: int
    kernel: int
    """Of the machine, for all sockets: of a gateway on this machine, both ends."""
    machine: int

    @classmethod
    def now(cls, sampler: Sampler, simulators: Sequence[int]) -> "Footprint":
        """Look.

        Args:
            sampler: sees the gateway's processes.
            simulators: pids of the processes of devices.
        """
        own = 0
        for pid in simulators:
            with contextlib.suppress(OSError):
                own += memory_bytes(pid)
        return cls(sampler.footprint_bytes("shard"), own, kernel_bytes(), used_bytes())

    def grown_kib(self, before: "Footprint", connections: int) -> dict[str, float]:
        """Give the growth for each connection, KiB, by the name of a figure."""

        def each(now: int, then: int) -> float:
            return (now - then) / 1024 / connections

        found = {
            "simulator memory per connection, KiB": each(self.simulators, before.simulators),
        }
        if before.shards:
            found |= {
                "shard memory per connection, KiB": each(self.shards, before.shards),
                "kernel memory per connection, both ends, KiB": each(self.kernel, before.kernel),
                "memory of the machine per connection, KiB": each(self.machine, before.machine),
            }
        return found
