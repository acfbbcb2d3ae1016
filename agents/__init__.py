"""The running system: engines, dispatcher, sessions."""
