"""`pushwire serve`: start the store and all roles as processes, watch them, stop them in order.

Order of start: store, then all roles at once. Order of stop: APIs and shards (they drain), workers,
store. Every child is tied to this process, so none outlives it.
"""
