"""Rows -> a frame with the same columns and types whatever the rows hold, also where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

Kind = Literal["text", "time", "whole", "number", "flag"]
PLACED: dict[str, Kind] = {  # where a record stands, for rows that may stand for none
    "event_id": "text",
    "source": "text",
    "occurred_at": "time",
    "recorded_at": "time",
    "sequence": "whole",
    "row": "whole",
}


def typed(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Kind]) -> pd.DataFrame:
    """The rows in these columns; what a row lacks is missing. Times are aware, to the microsecond, in UTC."""
    return pd.DataFrame({name: _column([row.get(name) for row in rows], kind) for name, kind in columns.items()})


def _column(values: list[Any], kind: Kind) -> pd.Series[Any]:
    if kind == "time":
        return pd.to_datetime(pd.Series(values, dtype=object), utc=True).astype("datetime64[us, UTC]")
    types: dict[Kind, str] = {"text": "str", "whole": "Int64", "number": "Float64", "flag": "bool"}
    return pd.Series(values, dtype=types[kind])
