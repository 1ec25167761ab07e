"""Bridges at work: what projects set up, and what carries pushes to their providers.

`accounts` is what a project does with its bridges; `directory` is what every process knows of them.
"""
