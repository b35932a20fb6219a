"""What every answer carries: a browser runs only this server's own scripts and shows its pages in no other page.

    application.add_transform(hardened(site))       # bokeh's BokehTornado is a tornado.web.Application

A script in a page needs `nonce="{{ request.csp_nonce }}"`: the transform is made before the handler runs, with a new
nonce for each request. A handler that sets its own Content-Security-Policy or Cache-Control keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_urlsafe
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

from auditlib.errors import MalformedError

NONCE_BYTES = 18  # random bytes; CSP Level 3, 7.1 asks for at least 16
HSTS_SECONDS = 63_072_000  # seconds; two years
UNUSED = (  # what a browser can do for a page, and no page of ours asks for
    *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer", "microphone", "midi"),
    *("payment", "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
)


@dataclass(frozen=True)
class Site:
    """Where browsers find this server: `origins` like `https://audit.example.org`, the first for links; `prefix` is
    '' or like '/audit', the same for browsers and for this server; `behind_proxy`: a proxy in front says who asks.
    """

    origins: tuple[str, ...]
    prefix: str = ""
    behind_proxy: bool = False

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            plain = bool(parts.netloc) and origin.lower() == f"{parts.scheme}://{parts.netloc}".lower()
            if parts.scheme not in ("http", "https") or not plain or "@" in origin:
                remedy = "Write https://audit.example.org, without a path."
                raise MalformedError(f"{origin[:200]!r} is no origin.", where="origins", remedy=remedy)
        if not self.origins or len({urlsplit(origin).scheme for origin in self.origins}) > 1:
            raise MalformedError("there must be one origin or more, all https or all http.", where="origins")
        if self.prefix and (not self.prefix.startswith("/") or self.prefix.endswith("/") or "//" in self.prefix):
            raise MalformedError(f"{self.prefix[:200]!r} is no prefix; write /audit.", where="prefix")

    @property
    def https(self) -> bool:
        """Whether browsers reach it encrypted."""
        return self.origins[0].startswith("https:")

    @property
    def home(self) -> str:
        """The path that everything lies under, with a slash at the end; cookies are for it."""
        return f"{self.prefix}/"

    def cookie(self, name: str) -> str:
        """A cookie's name, with the prefix by which browsers keep others from setting it (RFC 6265bis 4.1.3)."""
        if not self.https:
            return name
        return f"__Secure-{name}" if self.prefix else f"__Host-{name}"

    def serves(self, request: HTTPServerRequest) -> bool:
        """Whether it was asked by one of its own names: a page that rebinds its name to this address was not."""
        return request.host.lower() in {urlsplit(origin).netloc.lower() for origin in self.origins}

    def address(self, request: HTTPServerRequest) -> str:
        """Who asks: the other end of the connection, or whom the proxy put last into X-Forwarded-For.

        Tornado's own reading prefers X-Real-Ip, which a proxy that does not use it passes on from anybody.
        """
        told = request.headers.get_list("X-Forwarded-For") if self.behind_proxy else []
        return told[-1].rpartition(",")[2].strip() if told else request.remote_ip or ""

    def own_page(self, request: HTTPServerRequest) -> bool:
        """Whether a page of this server sent it, as the browser says: `Origin` comes with every POST (Fetch, 3.2)."""
        origin = request.headers.get("Origin")
        return origin is not None and origin.lower() in {known.lower() for known in self.origins}


def policy(site: Site, nonce: str) -> str:
    """The Content-Security-Policy of a page."""
    sockets = " ".join(f"ws{origin.removeprefix('http')}" for origin in site.origins)  # 'self' is not ws: everywhere
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        f"img-src 'self' data:; connect-src 'self' {sockets}; font-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def hardened(site: Site) -> type[OutputTransform]:
    """The transform for a Tornado application that serves this site."""

    class Hardened(OutputTransform):
        def __init__(self, request: HTTPServerRequest) -> None:
            self._path = request.path
            self._nonce = token_urlsafe(NONCE_BYTES)
            request.csp_nonce = self._nonce  # type: ignore[attr-defined]

        def transform_first_chunk(
            self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
        ) -> tuple[int, HTTPHeaders, bytes]:
            for name, value in self._fixed().items():
                headers[name] = value
            if "Content-Security-Policy" not in headers:
                headers["Content-Security-Policy"] = policy(site, self._nonce)
            if "Cache-Control" not in headers and not self._static(status_code):
                headers["Cache-Control"] = "no-store"
            for name in [name for name in headers if name == "Server" or name.startswith("Access-Control-")]:
                del headers[name]  # Bokeh lets other origins in where a page is embedded; ours never is
            return status_code, headers, chunk

        def _fixed(self) -> dict[str, str]:
            fixed = {
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "same-origin",  # with no-referrer a form's Origin is null, and tells nothing
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Permissions-Policy": ", ".join(f"{feature}=()" for feature in UNUSED),
                "X-Frame-Options": "DENY",
            }
            if site.https:
                fixed["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
            return fixed

        def _static(self, status_code: int) -> bool:
            """Files that are the same for everybody; what is not there is no such file."""
            folders = (f"{site.prefix}/static/", f"{site.prefix}/assets/")
            return status_code in (200, 206, 304) and self._path.startswith(folders)

    return Hardened
