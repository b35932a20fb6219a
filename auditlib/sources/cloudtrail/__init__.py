"""AWS CloudTrail -> events (docs.aws.amazon.com/awscloudtrail, "CloudTrail record contents").

    {"eventVersion":"1.08","eventTime":"2023-07-10T12:24:34Z","eventSource":"iam.amazonaws.com",
     "eventName":"AttachUserPolicy","eventID":"8f2b...","recipientAccountId":"123456789012",
     "userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::123456789012:user/alice",...},
     "requestParameters":{"userName":"bob","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"},...}

    -> action iam.attach_user_policy, actor user arn:...:user/alice, target aws.iam.user bob, outcome success,
       context.request.policyArn ..., from source import:cloudtrail:123456789012

action      eventSource without .amazonaws.com, a dot, eventName in snake case; the context has both as found
event_id    eventID; without one (they exist since version 1.01) nothing could tell a repeat: refused
source      import:cloudtrail:<recipientAccountId>; else the account of the identity; else `unknown`
actor       see `find_actor`: who acted, not the service that carried the call, unless `invokedBy` stands alone
outcome     denied: an error code of DENIED · failure: any other, an error message, or a failed sign-in
target      the most specific resource: `resources`, else TARGETS, else the service
context     all other fields, credentials replaced by "[redacted]", what is too deep or too large by
            {"omitted": why, "bytes": canonical size, "sha256": of the canonical bytes after redaction}
"""

from __future__ import annotations

from collections.abc import Iterator

from auditlib.errors import MalformedError
from auditlib.sources import Item, Paths, Progress, Reject, SourceFile
from auditlib.sources.cloudtrail.record import to_event
from auditlib.sources.files import Found, find
from auditlib.sources.logfile import FOREIGN, LOG, LogFile

__all__ = ["read", "to_event"]


def read(paths: Paths, *, progress: Progress | None = None) -> Iterator[Item]:
    """CloudTrail files and folders -> (source, Event), Reject and, after each file, its SourceFile.

    Files are read one after another; nothing is sorted. Raises MalformedError at the call for a path that is
    missing or holds no log, and UnavailableError later where a file cannot be read. CloudTrail's digest files
    (log file validation) and Insights are no records of actions: they are skipped and counted.
    """
    return _read(find(paths), progress)


def _read(found: list[Found], progress: Progress | None) -> Iterator[Item]:
    total, done = sum(file.size for file in found), 0
    for file in found:
        log = LogFile(file, _recognise)
        events = rejects = skipped = 0
        for entry in log:
            if isinstance(entry, Reject):
                rejects += 1
                yield entry
                continue
            try:
                recorded = to_event(entry.value)
            except MalformedError as error:
                rejects += 1
                yield Reject.of(entry.file, entry.line, entry.index, str(error), entry.raw)
                continue
            if recorded is None:
                skipped += 1
            else:
                events += 1
                yield recorded
        note = log.note or ("CloudTrail Insights; no actions" if skipped and not events else None)
        yield SourceFile(log.name, log.sha256, log.size, events, rejects, skipped, note)
        done += file.size
        if progress is not None:
            progress(done, total)


def _recognise(head: bytes) -> str:
    if b'"eventName"' in head or b'"Records"' in head or b'"insightDetails"' in head:
        return LOG
    if b'"digestStartTime"' in head and b'"logFiles"' in head:
        return "a CloudTrail digest; it holds hashes of log files, no records"
    if head[:2] == b"\x1f\x8b":
        return LOG  # packed twice: read, and refused with its reason
    return FOREIGN
