"""A Valkey in memory, for virtual time: the commands that Pushwire uses, and its functions in Lua.

It knows no sockets and no clock of its own. tests/store/test_small_valkey.py proves it against the
real server: both are given the same commands, and must answer the same.
"""
