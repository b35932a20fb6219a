"""Records events from several threads and writes down what was acknowledged, until it is done or killed.

    recorder.py URL SPOOL JOURNAL THREADS EVENTS DURABILITY      journal lines: event id, process, thread, turn

It says "ready", and begins when it is given a line.
"""

import os
import sys
import threading

from auditlib.client import Client

TOKEN = "test-token-4711"


def main(url: str, spool: str, journal: str, threads: int, events: int, durability: str) -> None:
    audit = Client(url, TOKEN, spool=spool, durability=durability, problems=lambda text: None)
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    print("ready", flush=True)
    sys.stdin.readline()

    pid = os.getpid()

    def work(thread: int) -> None:
        for turn in range(events):
            event_id = audit.record(
                action="role.grant",
                actor=f"user:u_{thread}",
                target="user:u_9013",
                context={
                    "granted_role": "admin",
                    "pid": pid,
                    "thread": thread,
                    "turn": turn,
                    "text": "é\n" * 9,
                },
            )
            os.write(descriptor, f"{event_id} {pid} {thread} {turn}\n".encode())

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if not events:  # only to send what earlier processes have left
        audit.flush(30)
    audit.close()


main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
