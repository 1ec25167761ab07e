"""The connection server: one long-lived WebSocket per device."""
