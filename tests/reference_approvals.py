"""Approval matching as slow and as obvious as possible: dicts and loops, one grant after another.

Rows are dicts with the columns of the frames; times are integers, missing is None. Written from the rules in
`auditlib.approvals`, not from its code.
"""

from fnmatch import fnmatchcase

HOUR, DAY = 3600 * 10**6, 86400 * 10**6
NAMES = [
    "approval_exists",
    "approved_before_grant",
    "same_subject",
    "same_entitlement",
    "independent_approver",
    "approver_authorised",
    "within_validity",
    "within_uses",
    "removed_in_time",
]
BADNESS = {"pass": 0, "n/a": 1, "not-testable": 2, "fail": 3}


def place(row):
    return row["occurred_at"], row["sequence"], row["row"]


def stated(row):
    return row["grantee"] is not None and row["entitlement"] is not None


def same_pair(a, b):
    return stated(a) and stated(b) and (a["grantee"], a["entitlement"]) == (b["grantee"], b["entitlement"])


def covers(decision, grant, *, refusal):
    """Does this decision answer the grant?"""
    if grant["request"] is None:
        return same_pair(decision, grant)
    if decision["request"] is None:
        return refusal and same_pair(decision, grant)
    return decision["request"] == grant["request"] and all(
        decision[field] is None or decision[field] == grant[field] for field in ("grantee", "entitlement")
    )


def last_at_or_before(decisions, grant, *, refusal):
    found = [
        place(d)
        for d in decisions
        if (d["decision"] != "approved") == refusal
        and d["occurred_at"] <= grant["occurred_at"]
        and covers(d, grant, refusal=refusal)
    ]
    return max(found, default=None)


def is_void(approval, grant, decisions):
    refusal = last_at_or_before(decisions, grant, refusal=True)
    if refusal is None:
        return False
    if approval["occurred_at"] <= grant["occurred_at"]:
        return place(approval) < refusal
    newer = last_at_or_before(decisions, grant, refusal=False)
    return newer is None or newer < refusal


def person(account, at, identities):
    best = None
    for entry in identities or []:
        if entry["account"] == account and (entry["valid_from"] is None or entry["valid_from"] <= at):
            start = -1 if entry["valid_from"] is None else entry["valid_from"]
            if best is None or start > best[0]:
                best = (start, entry)
    if best is None or (best[1]["valid_until"] is not None and at >= best[1]["valid_until"]):
        return account
    return best[1]["person"]


def judge(grant, approval, left, world):
    """The attributes of one grant against one approval, `left` uses being left (None: any number)."""
    policy, identities = world["policy"], world["identities"]
    got = {"approval_exists": "pass"}
    at, given = grant["occurred_at"], approval["occurred_at"]
    hours = policy.emergency_hours if grant["emergency"] else None
    late = given > at and (hours is None or given > at + hours * HOUR)
    got["approved_before_grant"] = "fail" if late else "pass"
    for name, field in (("same_subject", "grantee"), ("same_entitlement", "entitlement")):
        if grant[field] is None or approval[field] is None:
            got[name] = "not-testable"
        else:
            got[name] = "pass" if grant[field] == approval[field] else "fail"

    who = person(approval["actor_id"], given, identities)
    askers = [] if approval["requester"] is None else [person(approval["requester"], given, identities)]
    if approval["request"] is not None:
        for filed in world["requests"]:
            if filed["request"] == approval["request"] and filed["requester"] is not None:
                askers.append(person(filed["requester"], filed["occurred_at"], identities))
    known = [person(grant["actor_id"], at, identities), *askers]
    if grant["grantee"] is not None:
        known.append(person(grant["grantee"], at, identities))
    if who in known:
        got["independent_approver"] = "fail"
    else:
        complete = askers and grant["grantee"] is not None
        got["independent_approver"] = "pass" if complete else "not-testable"

    leaves = [
        x["occurred_at"]
        for x in world["leaves"]
        if person(x["grantee"], x["occurred_at"], identities) == who and x["occurred_at"] < given
    ]
    joins = [
        x["occurred_at"]
        for x in world["joins"]
        if person(x["grantee"], x["occurred_at"], identities) == who and x["occurred_at"] <= given
    ]
    if leaves and not (joins and max(joins) > max(leaves)):
        got["approver_authorised"] = "fail"
    elif not policy.authorities:
        got["approver_authorised"] = "n/a"
    elif approval["authority"] is None:
        got["approver_authorised"] = "not-testable"
    else:
        got["approver_authorised"] = "pass" if approval["authority"] in policy.authorities else "fail"

    inside = (
        (approval["valid_from"] is None or approval["valid_from"] <= at)
        and (approval["valid_until"] is None or at < approval["valid_until"])
        and (policy.max_age_days is None or at <= given + policy.max_age_days * DAY)
    )
    got["within_validity"] = "pass" if inside else "fail"
    if late or not inside or "fail" in (got["same_subject"], got["same_entitlement"]):
        got["within_uses"] = "n/a"
    elif left is not None and not stated(grant):
        got["within_uses"] = "not-testable"
    else:
        got["within_uses"] = "pass" if left is None or left > 0 else "fail"
    got["removed_in_time"] = removed(grant, [grant["valid_until"], approval["valid_until"]], world)
    return got


def removed(grant, ends, world):
    ends = [end for end in ends if end is not None]
    if not ends:
        return "fail" if world["policy"].time_bound_required else "n/a"
    end = min(ends)
    if any(same_pair(r, grant) and place(r) > place(grant) and r["occurred_at"] <= end for r in world["revokes"]):
        return "pass"
    if end > world["observed_until"]:
        return "n/a"
    return "fail" if stated(grant) else "not-testable"


def badness(got, grant, approval, void):
    """What makes one approval a worse choice than another: the tuple is compared from the left."""
    others = "fail" in (got["same_subject"], got["same_entitlement"])
    rest = ["approved_before_grant", *NAMES[4:]]
    before = approval["occurred_at"] <= grant["occurred_at"]
    when = approval["occurred_at"]
    return (
        others,
        void,
        BADNESS[got["same_subject"]],
        BADNESS[got["same_entitlement"]],
        sum(got[name] == "fail" for name in rest),
        sum(got[name] == "not-testable" for name in rest),
        [BADNESS[got[name]] for name in rest[:-1]],
        (0, -when) if before else (1, when),
        approval["sequence"],
        approval["row"],
    )


def reference(world):
    """item -> (approval event_id or None, {attribute: value}, verdict)."""
    decisions, policy = world["approvals"], world["policy"]
    left, done, answer = {}, {}, {}
    in_order = sorted(world["grants"], key=lambda g: (*place(g), g["number"]))
    for grant in in_order:
        same = (grant["event_id"], grant["request"], grant["grantee"], grant["entitlement"])
        if same not in done:
            done[same] = one(grant, decisions, policy, left, world)
        answer[grant["item"]] = done[same]
    return {item: finish(*found) for item, found in answer.items()}


def one(grant, decisions, policy, left, world):
    if grant["entitlement"] is not None and any(fnmatchcase(grant["entitlement"], g) for g in policy.standing):
        got = dict.fromkeys(NAMES, "n/a") | {"approval_exists": "pass"}
        return "standing policy", got | {"removed_in_time": removed(grant, [grant["valid_until"]], world)}
    if grant["request"] is None and not stated(grant):
        return None, dict.fromkeys(NAMES, "n/a") | {"approval_exists": "not-testable"}
    best = None
    for approval in decisions:
        if approval["decision"] != "approved":
            continue
        if grant["request"] is None:
            if not same_pair(approval, grant):
                continue
        elif approval["request"] != grant["request"]:
            continue
        counter = (approval["event_id"], approval["grantee"], approval["entitlement"])
        uses = policy.default_uses if approval["uses"] is None else approval["uses"]
        left.setdefault(counter, uses)
        # An approval that names nobody, or nothing, is chosen first and counted afterwards.
        free = uses if not stated(grant) else left[counter] if stated(approval) else None
        got = judge(grant, approval, free, world)
        void = is_void(approval, grant, decisions)
        found = (badness(got, grant, approval, void), counter, approval, got, void)
        if best is None or found[0] < best[0]:
            best = found
    if best is None or best[4]:
        return None, dict.fromkeys(NAMES, "n/a") | {"approval_exists": "fail"}
    _, counter, approval, got, _ = best
    if got["within_uses"] == "pass" and left[counter] is not None and stated(grant):
        if left[counter] <= 0:
            got["within_uses"] = "fail"
        left[counter] -= 1
    return approval["event_id"], got


def finish(approval, got):
    failed = [name for name in NAMES if got[name] == "fail"]
    if failed:
        return approval, got, failed[0]
    return approval, got, "not-testable" if "not-testable" in got.values() else "pass"
