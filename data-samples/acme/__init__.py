"""Acme, a company that does not exist, and half a year of what was recorded there."""
