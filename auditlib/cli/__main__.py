"""`python -m auditlib.cli`."""

from auditlib.cli import main

main()
