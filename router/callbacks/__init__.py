"""Callbacks: signed requests that tell app servers what became of their messages.

The way of an event: `feed` takes it from the outbox and puts it at the end of a lane of each
endpoint that wants it (`bodies` writes it); `delivery` looks at lanes that are due, makes callbacks
of what waits and sends them through `client`; `attempts` judges the answers. `directory` is what a
worker knows of webhooks; `endpoints` is what their owners do with webhooks and dead letters.

Before: the outbox, as `router.receipts` describes it. After: the app server.
"""
