"""The policy: what the company says an approval must be."""

from __future__ import annotations

import msgspec

from auditlib.errors import MalformedError


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the company says an approval must be. Raises MalformedError for a number that cannot be meant."""

    lookback_days: int = 90  # days before the period in which the caller searches for approvals
    emergency_hours: int | None = None  # hours after an emergency grant; None: no emergency policy
    standing: tuple[str, ...] = ()  # entitlements approved in advance; `*`, `?` and `[...]` as in file names
    time_bound_required: bool = False  # True: a grant without an end fails removed_in_time
    authorities: tuple[str, ...] = ()  # who may approve; (): not tested
    default_uses: int | None = None  # grants an approval covers that does not say; None: any number
    max_age_days: int | None = None  # an approval older than this at the grant no longer holds

    def __post_init__(self) -> None:
        """Refuses numbers below zero, and an approval that covers nothing by default."""
        least = {"lookback_days": 0, "emergency_hours": 0, "default_uses": 1, "max_age_days": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= 1_000_000:
                raise MalformedError(f"{value} is refused; it is {low} to 1,000,000.", where=f"policy.{name}")

    def sentences(self) -> list[str]:
        """The policy in plain words, for the report."""
        told = [f"Approvals were searched for up to {self.lookback_days} days before the period."]
        if self.emergency_hours is None:
            told.append("No emergency policy: an approval after the grant is late.")
        else:
            told.append(f"An emergency grant may be approved within {self.emergency_hours} hours after it.")
        if self.standing:
            told.append(f"Approved in advance by standing policy: {', '.join(self.standing)}.")
        if self.authorities:
            told.append(f"Approvers must hold one of these authorities: {', '.join(self.authorities)}.")
        else:
            told.append("The policy names no authorities: whether approvers were entitled to approve was not tested.")
        uses = "any number of grants" if self.default_uses is None else f"{self.default_uses} grant(s) of each access"
        told.append(f"An approval that states no number of uses covers {uses}.")
        if self.max_age_days is not None:
            told.append(f"An approval holds for {self.max_age_days} days.")
        if self.time_bound_required:
            told.append("Every grant must have an end.")
        return told
