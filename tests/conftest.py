"""Tests start from nothing that the shell around them has set for auditlib."""

import atexit
import os
import shutil
import tempfile

for _name in [name for name in os.environ if name.startswith("AUDITLIB_") and not name.startswith("AUDITLIB_TEST")]:
    del os.environ[_name]

for _name in ("COLUMNS", "LINES"):  # readline sets them for child processes; a console made then keeps that width
    os.environ.pop(_name, None)

os.environ.pop("PYTHONUNBUFFERED", None)  # output that is lost shows where it is buffered, as at a user's
os.environ["AUDITLIB_CACHE"] = tempfile.mkdtemp(prefix="auditlib-cache-")  # not the user's own
atexit.register(shutil.rmtree, os.environ["AUDITLIB_CACHE"], ignore_errors=True)
os.environ["AUDITLIB_STATE"] = tempfile.mkdtemp(prefix="auditlib-state-")  # nor the user's own key
atexit.register(shutil.rmtree, os.environ["AUDITLIB_STATE"], ignore_errors=True)


def pytest_collection_modifyitems(items):
    """The longest tests first: at the end of a run no process of several waits for the one that met them last."""
    items.sort(key=lambda item: item.path.name != "test_writing_side.py")
