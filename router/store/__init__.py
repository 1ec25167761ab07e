"""The store: one atomic function a transition, one hash tag a function."""
