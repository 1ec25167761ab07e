"""Load on a gateway from outside, and the ledger that accounts for every message."""
