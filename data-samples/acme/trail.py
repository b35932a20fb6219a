"""The trail while it is written: events in any order go in, numbered records in the order recorded come out.

Which source records what:

    identity       people, logins, access requests and decisions; grants by the access broker
    admin-console  grants and revocations by people, configuration, releases, break-glass, impersonation
    billing-api    permission checks, exports, reports, backups

What befalls the pipeline itself is here too: an instance replaced, a clock ahead, a silence, records lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any

from acme.clock import HOUR, MINUTE, MS, SINCE, UNTIL, berlin_day, text
from auditlib.formats.event import Actor, Event, Receipt, Record, Target, source_name
from auditlib.formats.times import SECOND, parse_time

SEED = 20260101
OFFICE = "203.0.113.10"
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's alphabet, as in a ULID
HEARTBEAT_EVERY = 30 * MINUTE
SIGN_IN = 4 * MINUTE  # from signing in to what somebody came for
SOURCES = ["admin-console", "billing-api", "identity"]

REPLACED = parse_time("2026-04-14T09:12:00Z")  # a deployment: billing-api/c0d4 ends, billing-api/e91b begins
AHEAD = "billing-api/e91b"  # the instance whose clock ran ahead, until somebody noticed
AHEAD_BY = 140 * SECOND
AHEAD_FROM = parse_time("2026-05-04T00:00:00Z")
AHEAD_UNTIL = parse_time("2026-05-25T00:00:00Z")
DOWN_FROM = parse_time("2026-04-21T20:00:30Z")  # nothing happened and nothing was recorded from here ...
DOWN_UNTIL = parse_time("2026-04-22T05:03:00Z")  # ... to here, when every source started again with a heartbeat
LOSER = "billing-api/7f3a"  # the instance that lost the next records from LOST_FROM on
LOST_FROM = parse_time("2026-05-19T13:20:00Z")
LOST = 3


def stream(name: str) -> Random:
    """The random numbers of one part of the generator, so that a change in one leaves the others alone."""
    return Random(f"{SEED}:{name}")


def instances(source: str, at: int) -> list[str]:
    """The instances of a source that run at a moment."""
    return {
        "billing-api": ["billing-api/7f3a", "billing-api/c0d4" if at < REPLACED else AHEAD],
        "admin-console": ["admin-console/2b6e"],
        "identity": ["identity/5d10", "identity/91fe"],
    }[source]


@dataclass(frozen=True)
class Session:
    """Where a person works from for a day; `lane` picks the instance of each source that answers."""

    id: str
    ip: str
    lane: int


@dataclass(frozen=True)
class Draft:
    """An event, the true time when it happened, the time when it is recorded, and by which instance."""

    event: Event
    at: int
    recorded: int
    instance: str

    @property
    def order(self) -> tuple[int, str, str]:
        """The order of the trail: as recorded."""
        return self.recorded, self.instance, self.event.event_id


class Trail:
    """Collects drafts; what adds one returns its event, so that what is planted can be listed by its id."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.lost: list[int] = []
        self._random = stream("trail")
        self._ordinary_days_over = False
        self._days: dict[tuple[str, date], Session] = {}
        self._ids: set[str] = set()
        self._process: dict[str, str] = {}

    def part(self, name: str) -> None:
        """From here on, a part that is played after the ordinary days: with random numbers of its own."""
        self._random = stream(f"trail: {name}")
        self._ordinary_days_over = True

    def session(self, user: str, ip: str | None = None) -> Session:
        """A new session of a person, from the office or from home, unless `ip` says otherwise."""
        home = f"198.51.100.{int(user[2:]) - 1000}"
        place = OFFICE if self._random.random() < 0.7 else home
        return Session(f"s_{self._random.getrandbits(24):06x}", ip or place, self._random.randrange(2))

    def day(self, user: str, at: int) -> Session:
        """The session of a person's day; whoever has one works on that day."""
        key = (user, berlin_day(at))
        if key not in self._days:
            self._days[key] = self.session(user)
        return self._days[key]

    def works(self, user: str, day: date) -> bool:
        """Whether the person has a session on that day already."""
        return (user, day) in self._days

    def add(
        self,
        source: str,
        at: int,
        action: str,
        actor: str,
        target: str,
        context: dict[str, Any] | None = None,
        *,
        outcome: str = "success",
        session: Session | None = None,
        lane: int | None = None,
        latency: int | None = None,
    ) -> Event:
        """One event at the true time `at`; `actor` and `target` are `type:id`."""
        if lane is None:
            lane = session.lane if session else self._random.randrange(2)
        running = instances(source, at)
        instance = running[lane % len(running)]
        occurred = at + AHEAD_BY if instance == AHEAD and AHEAD_FROM <= at < AHEAD_UNTIL else at
        actor_type, _, actor_id = actor.partition(":")
        target_type, _, target_id = target.partition(":")
        event = Event(
            action=action,
            actor=Actor(id=actor_id, session=session.id if session else None, type=actor_type),
            context=context or {},
            event_id=self._event_id(occurred, instance),
            occurred_at=text(occurred),
            outcome=outcome,
            target=Target(id=target_id, type=target_type),
        )
        if latency is None:
            slow = self._random.random() < 0.02
            latency = (self._random.randrange(1_000, 4_000) if slow else self._random.randrange(30, 230)) * MS
        self.drafts.append(Draft(event, at, at + latency, instance))
        return event

    def user(self, source: str, at: int, action: str, user: str, target: str, **more: Any) -> Event:
        """One event by a person, in the session of that day; who had none on an ordinary day signs in first."""
        if self._ordinary_days_over and not self.works(user, berlin_day(at)):
            session = self.day(user, at)
            before, account = at - SIGN_IN, f"user:{user}"
            self.add("identity", before, "user.login", account, account, {"ip": session.ip}, session=session)
        return self.add(source, at, action, f"user:{user}", target, session=self.day(user, at), **more)

    def heartbeats(self) -> None:
        """Every 30 minutes each source says that it is there, its instances in turn."""
        moments = sorted([*range(SINCE, UNTIL, HEARTBEAT_EVERY), DOWN_UNTIL])
        for source in SOURCES:
            for turn, at in enumerate(moments):
                running = instances(source, at)
                target = f"source:{running[turn % len(running)]}"
                self.add(source, at, "audit.heartbeat", f"system:heartbeat:{source}", target, lane=turn)

    def happened(self) -> Iterator[Draft]:
        """Every draft but those that fall into the silence."""
        return (draft for draft in self.drafts if not DOWN_FROM <= draft.at < DOWN_UNTIL)

    def finish(self) -> list[Record]:
        """Silence, then number every instance from 1 in the order recorded, then lose what was lost."""
        self.drafts = sorted(self.happened(), key=lambda draft: draft.order)
        last: dict[str, int] = {}
        kept, records = [], []
        for draft in self.drafts:
            number = last[draft.instance] = last.get(draft.instance, 0) + 1
            if draft.instance == LOSER and draft.recorded >= LOST_FROM and len(self.lost) < LOST:
                self.lost.append(number)
                continue
            kept.append(draft)
            receipt = Receipt(recorded_at=text(draft.recorded), source=draft.instance, source_seq=number)
            records.append(Record(draft.event, receipt))
        self.drafts = kept
        return records

    def pipeline(self) -> dict[str, Any]:
        """What befell the pipeline, for planted.json; after `finish`."""
        ahead = [d for d in self.drafts if d.instance == AHEAD and AHEAD_FROM <= d.at < AHEAD_UNTIL]
        return {
            "clock_ahead": {
                "event_ids": {"first": ahead[0].event.event_id, "last": ahead[-1].event.event_id},
                "events": len(ahead),
                "recorded_at": {"first": text(ahead[0].recorded), "last": text(ahead[-1].recorded)},
                "seconds": AHEAD_BY // SECOND,
                "source": AHEAD,
            },
            "lost_source_seq": {"after": text(LOST_FROM), "numbers": self.lost, "source": LOSER},
            "silence": {
                "all": self._silence(self.drafts),
                "by_source": {
                    source: self._silence([d for d in self.drafts if source_name(d.instance) == source])
                    for source in SOURCES
                },
            },
        }

    @staticmethod
    def _silence(drafts: list[Draft]) -> dict[str, Any]:
        before = [d for d in drafts if d.recorded < DOWN_FROM + HOUR][-1]
        after = next(d for d in drafts if d.recorded >= DOWN_FROM + HOUR)
        return {
            "first_after": {"event_id": after.event.event_id, "recorded_at": text(after.recorded)},
            "last_before": {"event_id": before.event.event_id, "recorded_at": text(before.recorded)},
            "microseconds": after.recorded - before.recorded,
        }

    def _event_id(self, at: int, instance: str) -> str:
        """Like a ULID: 10 characters of milliseconds, 12 of the process, 4 drawn for this event."""
        if instance not in self._process:
            self._process[instance] = self._base32(self._random.getrandbits(60), 12)
        while True:
            tail = self._base32(self._random.getrandbits(20), 4)
            event_id = self._base32(at // MS, 10) + self._process[instance] + tail
            if event_id not in self._ids:
                self._ids.add(event_id)
                return event_id

    @staticmethod
    def _base32(number: int, length: int) -> str:
        return "".join(BASE32[number >> 5 * place & 31] for place in reversed(range(length)))
