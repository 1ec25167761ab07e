"""What a run gives: a JSON file from which reports and comparisons are made."""

from pathlib import Path
from typing import Final

import msgspec

from loadtest.run.account import Verdict
from loadtest.run.histogram import Histogram
from loadtest.run.spec import Spec, decode_hook, encode_hook

FORMAT: Final = 1
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Latency(msgspec.Struct, frozen=True):
    """Latencies in milliseconds; `histogram` has all of them (HdrHistogram V2, base64, in µs)."""

    count: int
    mean: float
    quantiles: dict[str, float]
    max: float
    histogram: str

    @classmethod
    def of(cls, histogram: Histogram) -> "Latency":
        """Sum a histogram up."""
        quantiles = {name: histogram.quantile_ms(share) for name, share in QUANTILES.items()}
        return cls(
            histogram.count, histogram.mean_ms, quantiles, histogram.max_ms, histogram.encoded()
        )

    def decoded(self) -> Histogram:
        """Give the histogram back."""
        found = Histogram()
        found.add(self.histogram)
        return found


class Point(msgspec.Struct):
    """One period of the run; what is counted is counted within it."""

    t: float
    """Seconds since the first device was told to connect, at the period's end."""
    due: int = 0
    accepted: int = 0
    delivered: int = 0
    errors: int = 0
    connects: int = 0
    refused: int = 0
    """Connections that did not come to a session."""
    connected: int = 0
    backlog: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    """Of the deliveries of this period, milliseconds."""
    handshake_p50: float = 0.0
    handshake_p99: float = 0.0
    """Of the connections of this period, from when each was due until its welcome, milliseconds."""
    cpu: dict[str, float] = {}
    """Of each process of the gateway, percent of a core."""
    memory: dict[str, float] = {}
    """Of each process of the gateway, resident, MiB."""
    pss: dict[str, float] = {}
    """The same with shared pages split among their sharers, MiB; looked at every ten seconds."""
    descriptors: dict[str, int] = {}
    """Open ones of each process of the gateway."""


class Life(msgspec.Struct, frozen=True):
    """A process of the gateway, from the first point that saw it."""

    name: str
    pid: int
    first: int
    """Number of that point."""


class Mark(msgspec.Struct, frozen=True):
    """Something that happened at a moment."""

    t: float
    text: str
    fault: bool = False


class Result(msgspec.Struct, kw_only=True):
    """A whole run."""

    format: int = FORMAT
    scenario: str
    kept: bool
    report: str
    """The verdict in words."""
    started: str
    """ISO 8601, UTC."""
    gateway: str
    """Its URL, or how the run started it."""
    machine: str
    versions: dict[str, str]
    spec: Spec
    verdict: Verdict
    phases: dict[str, float]
    """Seconds that each phase took."""
    period: float
    """Seconds of a point."""
    points: list[Point]
    marks: list[Mark]
    lives: list[Life] = []
    """Of the gateway's processes: one that was started again has another pid."""
    latencies: dict[str, Latency]
    """`delivery`, `resumed`, `answer`, `lag`, `handshake`, `roll call`, from when it was due."""
    errors: dict[str, int]
    """Answers other than 200, by status."""
    ends: dict[str, int]
    """Sessions that ended, by reason."""
    refused: dict[str, int]
    """Connections that did not come to a session, by reason."""
    cpu: dict[str, float]
    """CPU seconds of each process of the gateway while messages were sent."""
    figures: dict[str, float]
    """Quotients that make runs comparable."""
    counters: dict[str, float]
    """What the gateway's own metrics counted meanwhile, where they could be read."""


def write(result: Result, path: Path) -> None:
    """Write it to a file."""
    path.write_bytes(
        msgspec.json.format(msgspec.json.encode(result, enc_hook=encode_hook), indent=1) + b"\n"
    )


def read(path: Path) -> Result:
    """Read it from a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no result, or of another version.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Result, dec_hook=decode_hook)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is no result of a load test: {error}") from None
    if found.format != FORMAT:
        raise ValueError(f"{path} has format {found.format}; this version reads {FORMAT}")
    return found
