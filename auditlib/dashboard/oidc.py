"""Sign-in by an OpenID provider: the authorization code flow with PKCE, whose end is who somebody is and nothing more.

    oidc = Oidc("https://id.example.org", "auditlib", secret, site.origins[0] + site.home + "signin/oidc/callback")
    url, ticket = oidc.begin("/audit/search", now)      # the ticket goes into a cookie, the browser to the URL
    identity, go_to = oidc.finish(arguments, ticket, now)

Panel has handlers for this (panel/auth.py), and little of them could be kept. They decode the ID token without checking
its signature, issuer, audience, expiry or nonce; keep the ID, access and refresh token in cookies; use PKCE only where
there is no client secret; and are configured through pn.config, which is one for the whole process. Kept is their way:
the state is bound to a cookie of the same browser, and comes back with where to go.

Nothing is remembered between the two steps: state, nonce and verifier are MACs over the ticket, under a key that this
process makes. No request from outside can fill a table, and a restart in between means to begin again. Both methods
ask the provider and block: call them in a thread.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Mapping
from hashlib import sha256
from secrets import compare_digest, token_bytes, token_urlsafe
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import jwt
import urllib3

from auditlib.errors import MalformedError, MismatchError, UnavailableError

MAX_ANSWER_BYTES = 256 * 1024  # of a provider's answer; discovery, keys and tokens take a few thousand
TIMEOUT = 10.0  # seconds that a provider has for an answer
KEPT = 3_600  # seconds that a provider's description is used before it is read again
TICKET_SECONDS = 600  # from going to the provider to coming back; RFC 6749 4.1.2 gives a code 10 minutes at most
MAX_TICKET_CHARS = 3_500  # characters; browsers keep cookies of up to 4,096 bytes
LEEWAY = 60  # seconds by which the provider's clock may differ
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # public keys
CLAIMS = ("iss", "aud", "exp", "iat", "sub", "nonce")  # OpenID Connect Core 2; the nonce because we send one
MAX_IDENTITY_CHARS = 300  # characters, as many as an engagement's identity may have
_PATH = "/.well-known/openid-configuration"  # OpenID Connect Discovery 4


class _Keys(jwt.PyJWKClient):
    """PyJWT's client for the provider's keys, over our bounded HTTP."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, lifespan=300, cooldown_duration=30)

    def fetch_data(self) -> Any:
        found = self._as_jwk_set_payload(_ask("GET", self.uri))
        if self.jwk_set_cache is not None:
            self.jwk_set_cache.put(found)
        self._last_successful_fetch = time.monotonic()
        return found


class Oidc:
    """One provider. `secret` may be empty for a public client; `claim` is what names a person, by default the e-mail
    address, which counts only where the provider says that it has verified it.
    """

    def __init__(self, issuer: str, client: str, secret: str, redirect: str, *, claim: str = "email") -> None:
        self.issuer = issuer
        self._client, self._secret, self._redirect, self._claim = client, secret, redirect, claim
        self._key = token_bytes(32)
        self._lock = threading.Lock()
        self._described: tuple[float, dict[str, Any], _Keys] | None = None
        _check_address(issuer, "issuer")

    def begin(self, go_to: str, now: int) -> tuple[str, str]:
        """Where to send the browser, and the ticket for its cookie. `now` in microseconds. Raises UnavailableError."""
        described, _ = self._describe()
        told = base64.urlsafe_b64encode(go_to.encode()).decode()
        ticket = f"{token_urlsafe(32)}.{now // 1_000_000}.{told}"
        if len(ticket) > MAX_TICKET_CHARS:
            return self.begin("", now)
        challenge = base64.urlsafe_b64encode(sha256(self._mac("verifier", ticket).encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._redirect,
            "scope": "openid email" if self._claim == "email" else "openid email profile",
            "state": self._mac("state", ticket),
            "nonce": self._mac("nonce", ticket),
            "code_challenge": challenge.decode().rstrip("="),  # RFC 7636 4.2
            "code_challenge_method": "S256",
        }
        address = described["authorization_endpoint"]
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}", ticket

    def finish(self, arguments: Mapping[str, str], ticket: str, now: int) -> tuple[str, str]:
        """Who came back, and where they wanted to go. The tokens are dropped here.

        MismatchError where what came back does not fit what was asked, is forged or not vouched for; its message is for
        the record. UnavailableError where the provider does not answer.
        """
        go_to = self._check_ticket(arguments.get("state", ""), ticket, now)
        described, keys = self._describe()
        issuer = arguments.get("iss")  # RFC 9207: an answer of another provider is not mixed up with this one's
        required = described.get("authorization_response_iss_parameter_supported") is True
        if (issuer is None and required) or issuer not in (None, self.issuer):
            raise MismatchError("another provider answered")
        if "code" not in arguments:
            raise MismatchError("the provider gave no code")
        tokens = self._exchange(described, arguments["code"], ticket)
        claims = self._claims(tokens.get("id_token"), keys, self._mac("nonce", ticket))
        if self._claim not in claims and "userinfo_endpoint" in described:
            claims = self._more(described, tokens.get("access_token"), claims)
        return self._identity(claims), go_to

    def _check_ticket(self, state: str, ticket: str, now: int) -> str:
        parts = ticket.split(".")
        if len(ticket) > MAX_TICKET_CHARS or len(parts) != 3 or not ticket.isascii():
            raise MismatchError("no sign-in was begun in this browser")
        if not compare_digest(self._mac("state", ticket).encode(), state.encode(errors="replace")):
            raise MismatchError("the state is not the one of this browser")
        if not 0 <= now // 1_000_000 - int(parts[1]) <= TICKET_SECONDS:  # digits: the state has vouched for them
            raise MismatchError("the sign-in took too long")
        return base64.urlsafe_b64decode(parts[2]).decode()

    def _exchange(self, described: dict[str, Any], code: str, ticket: str) -> dict[str, Any]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": self._mac("verifier", ticket),
        }
        headers = {}
        methods = described.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret and "client_secret_basic" in methods:
            pair = f"{quote_plus(self._client)}:{quote_plus(self._secret)}"  # RFC 6749 2.3.1
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            fields["client_id"] = self._client
            if self._secret:
                fields["client_secret"] = self._secret
        return _ask("POST", described["token_endpoint"], headers=headers, fields=fields)

    def _claims(self, token: Any, keys: _Keys, nonce: str) -> dict[str, Any]:
        """The claims of an ID token, checked as OpenID Connect Core 3.1.3.7 says."""
        if not isinstance(token, str):
            raise MismatchError("the provider gave no ID token")
        try:
            key = keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._client,
                issuer=self.issuer,
                leeway=LEEWAY,
                options={"require": list(CLAIMS)},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise MismatchError(f"the ID token does not hold ({type(error).__name__})") from None
        if not compare_digest(str(claims["nonce"]).encode(errors="replace"), nonce.encode()):
            raise MismatchError("the ID token is of another sign-in")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._client) != self._client:
            raise MismatchError("the ID token is for another client")
        return claims

    def _more(self, described: dict[str, Any], token: Any, claims: dict[str, Any]) -> dict[str, Any]:
        """What the provider tells apart from the ID token, if it is of the same person (OpenID Connect Core 5.3.2)."""
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise MismatchError("the provider gave no access token")
        told = _ask("GET", described["userinfo_endpoint"], headers={"Authorization": f"Bearer {token}"})
        if told.get("sub") != claims["sub"]:
            raise MismatchError("the provider told of somebody else")
        return told

    def _identity(self, claims: dict[str, Any]) -> str:
        found = claims.get(self._claim)
        if not isinstance(found, str) or not 0 < len(found) <= MAX_IDENTITY_CHARS or not found.isprintable():
            raise MismatchError(f"the provider names nobody by {self._claim}")
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise MismatchError("the provider does not vouch for the e-mail address")
        return found

    def _describe(self) -> tuple[dict[str, Any], _Keys]:
        """The provider's description of itself, and its keys."""
        with self._lock:
            if self._described is None or time.monotonic() - self._described[0] > KEPT:
                described = _ask("GET", self.issuer.rstrip("/") + _PATH)
                if described.get("issuer") != self.issuer:
                    raise _odd("it calls itself by another name")
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    _check_address(described.get(name), name)
                if "userinfo_endpoint" in described:
                    _check_address(described["userinfo_endpoint"], "userinfo_endpoint")
                self._described = time.monotonic(), described, _Keys(described["jwks_uri"])
            return self._described[1:]

    def _mac(self, what: str, ticket: str) -> str:
        made = hmac.digest(self._key, f"{what}\n{ticket}".encode(), "sha256")
        return base64.urlsafe_b64encode(made).decode().rstrip("=")  # 43 characters, as RFC 7636 4.1 asks of a verifier


_HTTP = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(TIMEOUT), maxsize=4)


def _ask(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, fields: dict[str, str] | None = None
) -> dict[str, Any]:
    """A provider's answer, a JSON object; never a redirect. MismatchError where it refuses a code or a token."""
    body = None if fields is None else urlencode(fields)
    sent = {"Accept": "application/json", **(headers or {})}
    if body is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        answer = _HTTP.request(method, url, headers=sent, body=body, redirect=False, preload_content=False)
        try:
            data = answer.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        finally:
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError):
        raise UnavailableError("The identity provider does not answer.", remedy="Try again in a minute.") from None
    if len(data) > MAX_ANSWER_BYTES:
        raise _odd("its answer is too long")
    if 400 <= answer.status < 500 and (headers or fields):
        raise MismatchError(f"the provider refused it ({answer.status})")
    if answer.status != 200:
        raise _odd(f"it answered {answer.status}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise _odd("its answer is no JSON") from None
    if not isinstance(found, dict):
        raise _odd("its answer is no JSON object")
    return found


def _odd(why: str) -> UnavailableError:
    return UnavailableError(f"The identity provider cannot be used: {why}.", remedy="Tell who runs this page.")


def _check_address(address: Any, what: str) -> None:
    """https, or http on this machine alone."""
    try:
        parts = urlsplit(address if isinstance(address, str) else "")
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        host = scheme = ""
    if not host or not (scheme == "https" or (scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))):
        raise MalformedError(f"{str(address)[:200]!r} is no https address of a provider.", where=what)
