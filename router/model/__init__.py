"""The words of Pushwire as values: ids, messages, devices, projects, receipts, hints, errors.

Nothing here does I/O, reads a clock or draws random numbers: time and entropy are arguments.
"""
