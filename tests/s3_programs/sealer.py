"""A sealer as a process of its own, told through a pipe what to do; it answers each order with a line.

    open                open
    seal 12 3           sealed 12 3          said only once `flush` returned: records 12, 13, 14 are sealed
                        refused 3 UnavailableError ...       the exit code, the kind, the sentence; the sealer is closed
    end                 (the process ends)

A `seal` without an open sealer is passed over.
"""

import time
from contextlib import ExitStack, closing
from pathlib import Path

import boto3
from botocore.config import Config
from simulator import KEY, records

from auditlib.errors import AuditlibError
from auditlib.sealer import open_sealer
from auditlib.state import SealerState
from auditlib.vault import s3


def now():
    """The real clock, in microseconds."""
    return time.time_ns() // 1000


def run(orders, url, state, session, attempts, seconds):
    """Serve the orders. `session` says which server as whom; a call may take `attempts` requests of `seconds` each."""
    patience = Config(
        connect_timeout=2,
        read_timeout=seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        proxies={},  # loopback is never reached through $http_proxy
    )
    client = boto3.client("s3", config=s3._CLIENT.merge(patience), **session)
    with closing(client), ExitStack() as opened:
        vault, sealer = s3.S3Vault(url, client=client), None
        while (order := orders.recv()) != "end":
            command, *numbers = order.split()
            try:
                if command == "open":
                    opened.close()
                    state_of_this = SealerState(Path(state), KEY.verifier)
                    sealer = opened.enter_context(open_sealer(vault, KEY, state_of_this, now=now))
                    orders.send("open")
                elif sealer:
                    first, count = map(int, numbers)
                    sealer.add(records(count, first))
                    sealer.flush()
                    orders.send(f"sealed {first} {count}")
            except AuditlibError as error:
                sealer = None
                opened.close()
                orders.send(f"refused {error.exit_code} {type(error).__name__} {error}")
