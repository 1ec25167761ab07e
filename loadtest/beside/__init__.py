"""The same work on Pushwire and on other servers, side by side: `make bench-peers`."""
