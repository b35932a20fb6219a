"""What a client is given: the collector's URL, the token, the catalogue."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog, extend_catalog, parse_catalog

_CATALOG = Path(__file__).parent.parent / "catalog.toml"


def check_token(token: str) -> str:
    """A token that can stand in a header; the error does not show it."""
    if not token or not all("!" <= character <= "~" for character in token):
        raise MalformedError("a token is visible ASCII characters, as `auditlib token add` prints it.", where="token")
    return token


def load_catalog(given: Catalog | str | Path | None) -> Catalog:
    """The built-in catalogue, or with a file of the user's own actions after it, or the one given."""
    if isinstance(given, Catalog):
        return given
    built_in = parse_catalog(_CATALOG.read_bytes())
    if given is None:
        return built_in
    try:
        return extend_catalog(built_in, Path(given).read_bytes())
    except OSError as error:
        raise MalformedError(f"the catalogue cannot be read ({error.strerror}).", where=str(given)) from None
    except MalformedError as error:
        raise error.at(str(given)) from None


def endpoint(url: str, allow_insecure: bool) -> str:
    """The collector's URL -> that of its one endpoint; a secret in it would end up in logs, so none is allowed."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise MalformedError("this is no URL; write it like https://collector.example.", where="url") from None
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.query or parts.fragment:
        raise MalformedError(
            "the collector's URL is http or https, a host, and no more than a path.",
            where="url",
            remedy="Write it like https://collector.example, and give the token by itself.",
        )
    if parts.scheme == "http" and not allow_insecure and not _is_loopback(parts.host.strip("[]")):
        raise MalformedError(
            "http:// would send the token and the events in the clear.",
            where="url",
            remedy="Use https://, or allow_insecure=True where the network is yours alone.",
        )
    return f"{parts.url.rstrip('/')}/v1/events"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
