"""Tests start from nothing that the shell around them has set for auditlib."""

import os

for _name in [name for name in os.environ if name.startswith("AUDITLIB_") and not name.startswith("AUDITLIB_TEST_")]:
    del os.environ[_name]
