"""The action catalogue: what it refuses, and what it makes events show."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from test_event import EXAMPLE, changed

import auditlib
from auditlib.errors import MalformedError
from auditlib.formats.catalog import MAX_CATALOG_BYTES, Catalog, extend_catalog, parse_catalog
from auditlib.formats.event import parse_event

BUILT_IN = (Path(auditlib.__file__).parent / "catalog.toml").read_bytes()
HEAD = b'format = "auditlib/catalog/v1"\n'


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return parse_catalog(BUILT_IN)


def test_the_built_in_catalogue_says_what_evidence_asks(catalog: Catalog) -> None:
    """Role grants are a privileged kind with a grantee, an entitlement and a request; the hash is of the bytes."""
    grant = catalog.actions["role.grant"]
    assert (grant.kind, grant.privileged, grant.required) == ("grant", True, ("granted_role",))
    assert grant.paths()["entitlement"] == "context.granted_role"
    grants, both = catalog.actions_of("grant"), catalog.actions_of(["grant", "revoke", "grant"])
    assert grants == tuple(name for name, action in catalog.actions.items() if action.kind == "grant")
    assert "role.grant" in grants
    assert both == tuple(sorted({*grants, *catalog.actions_of("revoke")}))
    assert "role.grant" in catalog.privileged
    assert "user.login" not in catalog.privileged
    assert catalog.sha256 == hashlib.sha256(BUILT_IN).hexdigest()
    assert list(catalog.kinds) == sorted(catalog.kinds)


def test_a_listed_action_without_its_context_is_refused(catalog: Catalog) -> None:
    """DESIGN 4.1: without the state that made it privileged an event proves nothing; an unlisted action passes."""
    catalog.check(parse_event(EXAMPLE))
    catalog.check(parse_event(changed(action="door.open", context={})))
    catalog.check(parse_event(changed(context={"granted_role": None})))
    with pytest.raises(MalformedError, match="granted_role"):
        catalog.check(parse_event(changed(context={"Granted_role": "admin"})))


def test_an_unknown_kind_names_the_closest(catalog: Catalog) -> None:
    """A typo must not become an empty population."""
    with pytest.raises(MalformedError, match="Did you mean 'grant'"):
        catalog.actions_of("grants")


MALFORMED = {
    "no format": b"[actions]\n",
    "another format": b'format = "auditlib/catalog/v2"\n[actions]\n',
    "an unknown field": HEAD + b'[actions."a.b"]\nkind = "x"\nprivilegde = true\n',
    "no kind": HEAD + b'[actions."a.b"]\nprivileged = true\n',
    "a kind in capitals": HEAD + b'[actions."a.b"]\nkind = "Grant"\n',
    "an action in capitals": HEAD + b'[actions."A.B"]\nkind = "x"\n',
    "a path with a quote": HEAD + b'[actions."a.b"]\nkind = "x"\ngrantee = "context.a\'b"\n',
    "a path into nothing": HEAD + b'[actions."a.b"]\nkind = "x"\ngrantee = "receipt.source"\n',
    "a path with an empty key": HEAD + b'[actions."a.b"]\nkind = "x"\ngrantee = "context..a"\n',
    "an approval without a decision": HEAD + b'[actions."a.b"]\nkind = "approval"\n',
    "required that is no list": HEAD + b'[actions."a.b"]\nkind = "x"\nrequired = "role"\n',
    "an action twice": HEAD + b'[actions."a.b"]\nkind = "x"\n[actions."a.b"]\nkind = "y"\n',
    "not UTF-8": HEAD + b"# \xff\n",
    "not TOML": b"{}",
    "deep nesting": b"a = " + b"[" * 5000,
    "an endless integer": b"a = " + b"9" * 5000,
    "a day that is not": b"a = 1979-13-99\n",
    "too long": HEAD + b"#" * MAX_CATALOG_BYTES,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_catalogue_that_does_not_mean_what_it_says_is_refused(data: bytes) -> None:
    """A catalogue comes out of a vault: only MalformedError, whatever is in it."""
    with pytest.raises(MalformedError):
        parse_catalog(data)


def test_an_extension_adds_actions_and_changes_none(catalog: Catalog) -> None:
    """The new catalogue is the base's bytes with the user's behind them."""
    more = extend_catalog(catalog, b'\n[actions."door.open"]\nkind = "door"\n')
    assert set(more.actions) - set(catalog.actions) == {"door.open"}
    assert all(more.actions[name] == action for name, action in catalog.actions.items())
    assert more.data.startswith(catalog.data.rstrip())
    assert parse_catalog(more.data).actions == more.actions
    assert extend_catalog(catalog, b"").actions == catalog.actions


EXTENSIONS = {
    "an action that is built in": b'[actions."role.grant"]\nkind = "login"\n',
    "an action that is built in, dotted": b'actions."role.grant".kind = "login"\n',
    "an action that is built in, inline": b'actions = {"role.grant" = {kind = "login"}}\n',
    "another format": b'format = "auditlib/catalog/v1"\n[actions."a.b"]\nkind = "x"\n',
    "a field for the base's last action": b'required = []\n[actions."a.b"]\nkind = "x"\n',
    "a part of the base's last action": b'actions."a.b".kind = "x"\n',
    "actions that are a number": b"actions = 3\n",
    "actions that are a list": b'actions = ["role.grant"]\n',
    "deep nesting": b"a = " + b"[" * 5000,
    "an endless integer": b"a = " + b"9" * 5000,
    "not UTF-8": b"# \xff",
    "a byte order mark": b'\xef\xbb\xbf[actions."a.b"]\nkind = "x"\n',
}


@pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS.keys())
def test_an_extension_cannot_quietly_change_what_is_built_in(catalog: Catalog, extension: bytes) -> None:
    """Refused as MalformedError, by name or because it reaches into the base's text."""
    with pytest.raises(MalformedError):
        extend_catalog(catalog, extension)
