"""The HTTP intake: events in, receipts out, nothing else (DESIGN 2).

create_app(store, tokens, catalog, now=...) -> Litestar      the application
serve(store, tokens, catalog, now=..., listen=...)           the same in a process of its own, until SIGTERM

answers.py    what is answered              headers.py     what a request says of its events
gate.py       who comes in, how much        intake.py      bytes -> records; states its commit point
refusals.py   what is kept of the refused   watch.py       failed authentications, health
openapi.py    /schema                       metrics.py     /metrics
app.py        the handlers                  server.py      socket, TLS, stopping
"""

from auditlib.collector.app import create_app
from auditlib.collector.gate import Limits
from auditlib.collector.server import DEFAULT_LISTEN, serve

__all__ = ["DEFAULT_LISTEN", "Limits", "create_app", "serve"]
