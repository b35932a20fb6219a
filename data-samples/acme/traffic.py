"""What goes on at Acme whether or not anybody audits it: working days, nights on call, jobs, services."""

from __future__ import annotations

from datetime import date
from random import Random

from acme.changes import Changes
from acme.clock import DAYS, HOUR, MINUTE, MS, SINCE, UNTIL, at_minute, is_working_day
from acme.people import HR_SYNC, JOINED, LEFT, PAYMENTS, PEOPLE, Person
from acme.trail import Session, Trail, stream
from auditlib.formats.times import DAY, SECOND

CHECKS = {  # department -> the permissions its people use, and on what
    "engineering": ["log.read", "service.read", "config.read"],
    "support": ["customer.read", "ticket.write", "invoice.read"],
    "finance": ["invoice.read", "invoice.write", "payout.read"],
    "operations": ["user.read", "service.read", "config.read"],
    "security": ["user.read", "log.read"],
    "human-resources": ["user.read"],
    "sales": ["customer.read", "customer.write"],
}
REPORTS = ["revenue", "dunning", "churn", "usage"]
SERVICES = ["admin-console", "billing-api", "identity"]
SETTINGS = ["invoice.due_days", "login.max_attempts", "payout.limit", "retry.interval", "session.hours"]
NOBODY = "anonymous:anonymous"  # who has not proved yet who it is
STRANGERS = [f"192.0.2.{n}" for n in range(100, 140)]  # addresses that try a password now and then
JOBS = [  # every so many hours, from this minute of the first day on
    ("billing-api", 1, 5, "report.run", "usage-rollup", "report:usage"),
    ("billing-api", 24, 90, "backup.run", "nightly-backup", "database:billing"),
    ("billing-api", 24, 255, "report.run", "invoice-run", "report:invoices"),
    ("admin-console", 6, 220, "report.run", "certificate-check", "report:certificates"),
]
AWAY = 0.1  # share of working days on leave or ill
WEEKEND = 0.03  # share of free days on which somebody works all the same


def play(trail: Trail, changes: Changes) -> None:
    """Everything ordinary, for the whole half year; `changes` is told of every release."""
    joiners_and_leavers(trail)
    working_days(trail, stream("days"))
    nights_on_call(trail, stream("nights"))
    jobs(trail, stream("jobs"))
    services(trail, stream("services"), changes)
    strangers(trail, stream("strangers"))


def joiners_and_leavers(trail: Trail) -> None:
    """The personnel system tells identity who joins and who leaves."""
    for action, moments in (("employee.join", JOINED), ("employee.leave", LEFT)):
        for user, at in moments.items():
            context = {"department": PEOPLE[user].department, "job": PEOPLE[user].job}
            trail.add("identity", at, action, f"service:{HR_SYNC}", f"user:{user}", context)


def working_days(trail: Trail, random: Random) -> None:
    """Each person on each day: sign in, do things, have lunch, sign out more often than not."""
    for day in DAYS:
        for person in PEOPLE.values():
            present = random.random() >= AWAY if is_working_day(day) else random.random() < WEEKEND
            planned = trail.works(person.id, day)
            if present or planned:
                working_day(trail, random, person, day, planned)


def working_day(trail: Trail, random: Random, person: Person, day: date, planned: bool) -> None:
    """One person's day; nothing before joining or after leaving; what is planned may need the session late."""
    start = 8 * 60 + person.number % 4 * 15 + random.randrange(40)
    end = start + 480 + random.randrange(90)
    moments = [random.randrange(start + 2, end) for _ in range(random.randrange(3, 7))]
    lunch = [720 <= minute < 780 and random.random() < 0.75 for minute in moments]
    moments = sorted(minute + 75 * late for minute, late in zip(moments, lunch, strict=True))
    times = [at_minute(day, minute) + random.randrange(60_000) * MS for minute in [start, *moments, end + 90]]
    if not (person.active(times[0]) and times[0] >= SINCE):
        return
    session = trail.day(person.id, times[0])
    sign_in(trail, random, person, times[0], session)
    for at in times[1:-1]:
        if person.active(at):
            work(trail, random, person, at, session)
    if person.active(times[-1]) and random.random() < 0.5 and not planned:
        trail.user("identity", times[-1], "user.logout", person.id, f"user:{person.id}")


def sign_in(trail: Trail, random: Random, person: Person, at: int, session: Session) -> None:
    """A login; one in twenty is mistyped first, and who mistypes is not known yet."""
    target, context = f"user:{person.id}", {"ip": session.ip}
    if random.random() < 0.05:
        at_first = at - random.randrange(8, 40) * SECOND
        trail.add("identity", at_first, "user.login", NOBODY, target, context, outcome="failure")
    trail.add("identity", at, "user.login", f"user:{person.id}", target, context, session=session)


def work(trail: Trail, random: Random, person: Person, at: int, session: Session) -> None:
    """One thing that somebody of that department does."""
    user, dice = f"user:{person.id}", random.random()
    if dice < 0.06 and person.department in ("finance", "sales", "support"):
        report = random.choice(REPORTS)
        trail.add("billing-api", at, "report.run", user, f"report:{report}", session=session)
    elif dice < 0.15 and person.department == "finance":
        context = {"format": "csv", "rows": random.randrange(1, 40) * 50}
        trail.add("billing-api", at, "data.export", user, "table:invoices", context, session=session)
    elif dice < 0.12 and person.department == "support":
        context = {"case_id": f"C-{random.randrange(4000, 4999)}"}
        customer = f"customer:c_{random.randrange(100, 300)}"
        actor = f"support:{person.id}"
        trail.add("admin-console", at, "support.impersonate", actor, customer, context, session=session)
    elif dice < 0.05 and person.department in ("engineering", "operations"):
        change_config(trail, random, person.id, at, session)
    else:
        permission = random.choice(CHECKS[person.department])
        kind = permission.split(".")[0]
        target = f"{kind}:{kind[0]}_{random.randrange(100, 300)}"
        outcome = "denied" if random.random() < 0.02 else "success"
        context = {"permission": permission}
        trail.add("billing-api", at, "permission.check", user, target, context, session=session, outcome=outcome)


def change_config(trail: Trail, random: Random, user: str, at: int, session: Session) -> None:
    """A setting is changed, under a ticket."""
    context = {"setting": random.choice(SETTINGS), "ticket": f"T-{random.randrange(700, 999)}"}
    target = f"service:{random.choice(SERVICES)}"
    trail.add("admin-console", at, "config.change", f"user:{user}", target, context, session=session)


def nights_on_call(trail: Trail, random: Random) -> None:
    """One engineer a week is on call; in every third night or so the pager rings."""
    engineers = [person for person in PEOPLE.values() if person.job == "engineer"]
    for number, day in enumerate(DAYS[:-1]):
        person = engineers[number // 7 % len(engineers)]
        at = at_minute(day, 23 * 60 + random.randrange(330)) + random.randrange(60_000) * MS
        if random.random() >= 0.35 or not person.active(at):
            continue
        user, session = f"user:{person.id}", trail.session(person.id, f"198.51.100.{person.number - 1000}")
        sign_in(trail, random, person, at, session)
        for _ in range(random.randrange(3, 9)):
            at += random.randrange(30_000, 400_000) * MS
            if random.random() < 0.15:
                change_config(trail, random, person.id, at, session)
            else:
                target, context = f"service:{random.choice(SERVICES)}", {"permission": "log.read"}
                trail.add("billing-api", at, "permission.check", user, target, context, session=session)


def jobs(trail: Trail, random: Random) -> None:
    """Scheduled jobs, in UTC, day and night."""
    for source, every, minute, action, job, target in JOBS:
        for at in range(SINCE + minute * MINUTE, UNTIL, every * HOUR):
            moment = at + random.randrange(3_000) * MS
            outcome = "failure" if action == "backup.run" and random.random() < 0.02 else "success"
            trail.add(source, moment, action, f"system:cron:{job}", target, outcome=outcome)


def services(trail: Trail, random: Random, changes: Changes) -> None:
    """Payments ask for permission around the clock; releases leave on working afternoons."""
    for at in range(SINCE, UNTIL, HOUR):
        if random.random() < 0.4:
            moment, target = at + random.randrange(3_599_000) * MS, f"invoice:i_{random.randrange(100, 300)}"
            context = {"permission": "payout.write"}
            trail.add("billing-api", moment, "permission.check", f"service:{PAYMENTS}", target, context)
    for number, day in enumerate(DAYS):
        if not is_working_day(day) or day.weekday() == 4:
            continue
        for release in range(random.randrange(3)):
            at = at_minute(day, 13 * 60 + release * 100 + random.randrange(90)) + random.randrange(60_000) * MS
            commit, version = f"{random.getrandbits(28):07x}", f"26.{number}.{release}"
            changes.release(trail, at, f"service:{random.choice(SERVICES)}", commit, version)


def strangers(trail: Trail, random: Random) -> None:
    """A few passwords a day are tried from addresses nobody knows, never many from one."""
    for at in range(SINCE, UNTIL, DAY):
        for _ in range(random.randrange(4)):
            moment, target = at + random.randrange(86_399_000) * MS, f"user:u_{random.randrange(1001, 1044)}"
            context = {"ip": random.choice(STRANGERS)}
            trail.add("identity", moment, "user.login", NOBODY, target, context, outcome="failure")
