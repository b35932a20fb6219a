"""The formats: bytes and values in, objects out. No clock, no randomness, no network, no files.

Each module's docstring opens with a real example of its bytes. What they parse they re-encode and compare;
what differs is refused.
"""
