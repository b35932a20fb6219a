"""AWS names in the form that events use."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """An AWS event name -> lower-case words: GetSAMLProvider is get_saml_provider.

    Acronyms are one word, with a plural s (ListVPCs: list_vpcs); a dated version is split off
    (CreateFunction20150331: create_function_20150331); whatever is not a-z 0-9 : / - becomes an underscore.
    A second pass changes nothing.
    """
    text = re.sub(r"[^A-Za-z0-9:/-]+", "_", name)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    text = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))(?![A-Z]v[0-9])", "_", text)
    text = re.sub(r"(?<=[A-Za-z])(?=[0-9]{8}|20[0-9]{2}_[0-9]{2}_[0-9]{2})", "_", text)
    return re.sub(r"_+", "_", text).strip("_").lower()


def string(value: Any) -> str:
    """The text, or "" for what is none."""
    return value if isinstance(value, str) else ""
