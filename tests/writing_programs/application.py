"""An application: threads that record events until SIGTERM, and write down each id that record() returned.

    application.py URL TOKEN SPOOL JOURNAL THREADS EVENTS PAUSE      EVENTS a thread, 0: until SIGTERM; PAUSE in seconds

Where the spool has no room it waits and tries again, as an application may. Without threads it only sends what earlier
processes have left. In the end it says how many events wait.
"""

import os
import signal
import sys
import threading

from auditlib.client import Client
from auditlib.errors import UnavailableError

SPOOL_BYTES = 1024 * 1024  # bytes; the least, so that files are ended, begun and removed all the time
FLUSH_SECONDS = 60

stop = threading.Event()


def main():
    url, token, spool, journal, threads, events, pause = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    audit = Client(url, token, spool=spool, max_spool_bytes=SPOOL_BYTES, problems=lambda text: print(text, flush=True))
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    print("ready", flush=True)

    def work(thread):
        turn = 0
        while not stop.is_set() and (turn < int(events) or events == "0"):
            try:
                event_id = audit.record(
                    action="role.grant" if turn % 3 else "user.login",
                    actor=f"user:u_{thread}",
                    target="user:u_9013",
                    context={"granted_role": "admin", "thread": thread, "turn": turn, "text": "é\n" * 9},
                )
            except UnavailableError as error:
                print(f"not recorded: {error}", flush=True)
                stop.wait(0.1)
                continue
            os.write(descriptor, f"{event_id}\n".encode())
            turn += 1
            stop.wait(float(pause))

    def hurry():
        while not stop.is_set() and any(worker.is_alive() for worker in workers):
            audit.flush(1)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(int(threads))]
    for worker in workers:
        worker.start()
    hurry()  # so that after a failure the next attempt comes soon
    for worker in workers:
        worker.join()
    audit.flush(FLUSH_SECONDS)
    found = audit.status()
    print(f"waiting {found.waiting} conflict {found.conflict} refused {found.refused} aside {found.aside}", flush=True)
    audit.close()
