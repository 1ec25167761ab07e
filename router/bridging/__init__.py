"""Bridges at work: what projects set up, and what carries pushes to their providers.

`accounts` is what a project does with its bridges; `directory` is what every process knows of them.

The way of a push: `dispatch` takes it from the queues that `queues` chooses and `gate` lets pass;
`attempts` tries it; `consequences` follows from what came of it; `results` has that stored. Beside
them: `health` of audiences, `rates`, `authorizations`, `letters`. `pools` carry requests:
`http2_pool` over `http2` over `wire`, and `http1`; `transport` says what may go wrong. `probe`
tries credentials.
"""
