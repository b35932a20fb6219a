"""How much of the costliest tests runs: `make test AUDITLIB_TESTS_LONG=1` asks for all of it, as before a release.

Without it they run on fewer points, chosen so that each still meets every way that the code can take.
"""

import os

LONG = os.environ.get("AUDITLIB_TESTS_LONG") == "1"
