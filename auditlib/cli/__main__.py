"""`python -m auditlib.cli`."""

from auditlib.cli import main

if __name__ == "__main__":  # not where a process that works for it reads this file again
    main()
