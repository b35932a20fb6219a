"""CloudTrail files become events: nothing dropped, nobody misnamed, no credential kept (DESIGN 4.1, 6)."""

import base64
import gzip
import json
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.event import NAME, Event, event_bytes, parse_event
from auditlib.sources import MAX_REJECT_BYTES, Entry, Reject, SourceFile, files, reader
from auditlib.sources.cloudtrail import _recognise, read, to_event
from auditlib.sources.cloudtrail.names import snake_case
from auditlib.sources.logfile import LogFile

ROOT = Path(__file__).parent.parent
LAB = ROOT.parent / "shared" / "data" / "cloudtrail-lab"
needs_lab = pytest.mark.skipif(not LAB.is_dir(), reason="the public CloudTrail records are not here")
ALICE = {
    "type": "IAMUser",
    "principalId": "AIDAEXAMPLE",
    "arn": "arn:aws:iam::123456789012:user/alice",
    "accountId": "123456789012",
    "accessKeyId": "AKIAEXAMPLE123456789",
    "userName": "alice",
}


def record(**changes: Any) -> dict[str, Any]:
    """One valid record: alice attaches AdministratorAccess to bob."""
    return {
        "eventVersion": "1.08",
        "userIdentity": ALICE,
        "eventTime": "2023-07-10T12:24:34Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "AttachUserPolicy",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.9",
        "userAgent": "aws-cli/2.15",
        "requestParameters": {"userName": "bob", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "responseElements": None,
        "requestID": "r-1",
        "eventID": "e-1",
        "eventType": "AwsApiCall",
        "recipientAccountId": "123456789012",
    } | changes


def event(**changes: Any) -> Event:
    """The event of a record, which must be one."""
    found = to_event(record(**changes))
    assert found is not None
    return found[1]


def context(**changes: Any) -> dict[str, Any]:
    return event(**changes).context


Read = tuple[list[tuple[str, Event]], list[Reject], list[SourceFile]]


def read_all(*paths: Path) -> Read:
    items = list(read(paths))
    return (
        [item for item in items if isinstance(item, tuple)],
        [item for item in items if isinstance(item, Reject)],
        [item for item in items if isinstance(item, SourceFile)],
    )


def written(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.fixture(scope="module")
def lab() -> Read:
    return read_all(LAB)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return parse_catalog((ROOT / "auditlib" / "catalog.toml").read_bytes())


# --- the real records ---------------------------------------------------------------------------------------


@needs_lab
def test_every_record_of_the_lab_becomes_an_event(lab: Read) -> None:
    events, rejects, sources = lab
    assert (len(events), len(rejects)) == (2900, 0)
    assert sum(file.events for file in sources) == 2900
    assert sum(file.sha256 is not None for file in sources) == 55
    assert {source for source, _ in events} == {"import:cloudtrail:123837392027"}
    assert len({found.event_id for _, found in events}) == 2900


@needs_lab
def test_every_event_of_the_lab_is_valid_and_canonical(lab: Read) -> None:
    for _, found in lab[0]:
        assert parse_event(event_bytes(found)) == found


@needs_lab
def test_denied_is_told_from_failed(lab: Read) -> None:
    """60 of 300 error codes are refusals: 16 AccessDenied and 44 Client.UnauthorizedOperation."""
    assert Counter(found.outcome for _, found in lab[0]) == {"success": 2600, "failure": 240, "denied": 60}
    denied = Counter(found.context["error_code"] for _, found in lab[0] if found.outcome == "denied")
    assert denied == {"AccessDenied": 16, "Client.UnauthorizedOperation": 44}


@needs_lab
def test_the_human_is_the_actor_although_a_service_carried_the_call(lab: Read) -> None:
    carried = [found for _, found in lab[0] if "invoked_by" in found.context]
    people = [found for found in carried if found.context["identity"].get("type") == "IAMUser"]
    assert len(people) == 271
    assert {found.actor.type for found in people} == {"user"}
    assert all(":user/" in found.actor.id for found in people)


@needs_lab
def test_an_identity_without_type_is_the_service_that_it_names(lab: Read) -> None:
    bare = [found for _, found in lab[0] if "type" not in found.context["identity"]]
    assert len(bare) == 42
    assert {found.actor.type for found in bare} == {"service"}
    assert all(found.actor.id.endswith(".amazonaws.com") for found in bare)


@needs_lab
def test_the_grants_of_the_lab_are_found_by_kind(lab: Read, catalog: Catalog) -> None:
    grants = catalog.actions_of("grant")
    assert Counter(found.action for _, found in lab[0] if found.action in grants) == {
        "iam.attach_role_policy": 6,
        "iam.attach_user_policy": 1,
        "iam.put_role_policy": 5,
        "iam.update_assume_role_policy": 2,
    }
    for _, found in lab[0]:
        catalog.check(found)
    trusted = [f.context["principals"] for _, f in lab[0] if f.action == "iam.update_assume_role_policy"]
    assert sorted(map(len, trusted)) == [1, 2]
    assert all("ec2.amazonaws.com" in names for names in trusted)


@needs_lab
def test_no_credential_of_the_lab_survives(lab: Read) -> None:
    """Every value that stands under a secret's name in the raw files is looked for in every event."""
    secret = re.compile(r"sessiontoken|secretaccesskey|password$|secretstring|secretbinary|privatekey", re.IGNORECASE)
    values: set[str] = set()

    def walk(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, dict | list):
                walk(item)
            elif isinstance(item, str) and isinstance(key, str) and secret.search(key):
                values.add(item)

    for path in sorted(LAB.rglob("*.json")):
        walk(json.loads(path.read_bytes())["Records"])
    values -= {"HIDDEN_DUE_TO_SECURITY_REASONS"}
    assert len(values) == 36
    everything = b"\n".join(event_bytes(found) for _, found in lab[0])
    assert not [value for value in values if value.encode() in everything]
    assert not [value for value in values if value[:60].encode() in everything]
    assert b"Encoded authorization failure message: [redacted]" in everything


@needs_lab
def test_source_files_name_no_place_of_this_machine(lab: Read) -> None:
    assert all(file.name.startswith("CloudTrail/") or file.name == "LICENSE" for file in lab[2])


# --- action -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("AttachRolePolicy", "attach_role_policy"),
        ("GetSAMLProvider", "get_saml_provider"),
        ("ListMFADevices", "list_mfa_devices"),
        ("DescribeDBInstances", "describe_db_instances"),
        ("ListSSHPublicKeys", "list_ssh_public_keys"),
        ("ListVPCs", "list_vpcs"),
        ("ListWebACLsForRegion", "list_web_acls_for_region"),
        ("CreateFunction20150331", "create_function_20150331"),
        ("AddPermission20150331v2", "add_permission_20150331v2"),
        ("ListTags2017_03_31", "list_tags_2017_03_31"),
        ("AssignIpv6Addresses", "assign_ipv6_addresses"),
        ("EnableIPv6", "enable_ipv6"),
        ("ListObjectsV2", "list_objects_v2"),
        ("REST.GET.OBJECT", "rest_get_object"),
        ("already_lower", "already_lower"),
        ("lookup", "lookup"),
        ("Weird  Näme!", "weird_n_me"),
        ("日本", ""),
    ],
)
def test_event_names_become_words(name: str, words: str) -> None:
    assert snake_case(name) == words


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9_.]{1,60}", fullmatch=True)))
def test_snake_case_is_stable_and_within_the_alphabet(name: str) -> None:
    words = snake_case(name)
    assert snake_case(words) == words
    assert words == "" or (NAME.fullmatch(words) and "." not in words)
    if re.search("[A-Za-z0-9]", name):
        assert words


def test_the_service_is_the_first_word() -> None:
    assert event(eventSource="participant.connect.amazonaws.com").action == "participant.connect.attach_user_policy"
    assert event(eventSource="iam.amazonaws.com.cn").action == "iam.attach_user_policy"
    with pytest.raises(MalformedError, match="no name for the action"):
        event(eventName="日本")


# --- actor --------------------------------------------------------------------------------------------------


def role(session: str, arn: str = "arn:aws:iam::123456789012:role/Deploy", **more: Any) -> dict[str, Any]:
    return {
        "type": "AssumedRole",
        "principalId": f"AROAEXAMPLE:{session}",
        "arn": f"arn:aws:sts::123456789012:assumed-role/Deploy/{session}",
        "accountId": "123456789012",
        "sessionContext": {
            "sessionIssuer": {"type": "Role", "arn": arn},
            "attributes": {"mfaAuthenticated": "true"},
        },
    } | more


LINKED = "arn:aws:iam::123456789012:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX"
HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (ALICE, ("user", ALICE["arn"])),
        (ALICE | {"invokedBy": "athena.amazonaws.com"}, ("user", ALICE["arn"])),
        ({"type": "Root", "arn": "arn:aws:iam::1:root"}, ("user", "arn:aws:iam::1:root")),
        (role("carol"), ("user", "arn:aws:sts::123456789012:assumed-role/Deploy/carol")),
        (
            role("carol", invokedBy="athena.amazonaws.com"),
            ("user", "arn:aws:sts::123456789012:assumed-role/Deploy/carol"),
        ),
        (role("x", LINKED), ("service", "arn:aws:sts::123456789012:assumed-role/Deploy/x")),
        (
            role("i-0dbc91f429e48eeed"),
            ("service", "arn:aws:sts::123456789012:assumed-role/Deploy/i-0dbc91f429e48eeed"),
        ),
        (
            {"type": "AWSService", "invokedBy": "inspector2.amazonaws.com"},
            ("service", "inspector2.amazonaws.com"),
        ),
        ({"accountId": "1", "invokedBy": "ec2.amazonaws.com"}, ("service", "ec2.amazonaws.com")),
        ({"type": "AWSAccount", "accountId": "210987654321"}, ("user", "210987654321")),
        (
            {"type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL"},
            ("anonymous", "ANONYMOUS_PRINCIPAL"),
        ),
        ({"type": "SAMLUser", "principalId": "idp:alice", "userName": "alice"}, ("user", "idp:alice")),
        (
            {"type": "WebIdentityUser", "principalId": "accounts.google.com:app:7"},
            ("user", "accounts.google.com:app:7"),
        ),
        (
            {"type": "IdentityCenterUser", "onBehalfOf": {"userId": "u-7"}, "credentialId": "c-1"},
            ("user", "u-7"),
        ),
        ({"type": "IAMUser", "userName": HIDDEN, "accountId": "1", "accessKeyId": ""}, ("anonymous", HIDDEN)),
        ({"type": "Unknown", "principalId": "p"}, ("user", "p")),
        ({"accountId": "123456789012"}, ("anonymous", "123456789012")),
    ],
)
def test_who_acted(identity: dict[str, Any], expected: tuple[str, str]) -> None:
    actor = event(userIdentity=identity).actor
    assert (actor.type, actor.id) == expected


def test_the_session_is_the_key_id_or_the_role_session() -> None:
    assert event().actor.session == "AKIAEXAMPLE123456789"
    assert event(userIdentity=role("carol")).actor.session == "carol"
    assert event(userIdentity=role("carol", accessKeyId="ASIA1")).actor.session == "ASIA1"
    assert event(userIdentity={"type": "Root", "arn": "arn:aws:iam::1:root"}).actor.session is None


@pytest.mark.parametrize("identity", [None, {}, [], "alice", {"type": "IAMUser"}, {"arn": 7}])
def test_an_action_without_an_actor_is_refused(identity: Any) -> None:
    with pytest.raises(MalformedError, match="an action without an actor is a finding"):
        event(userIdentity=identity)


def test_the_service_acts_in_its_own_event() -> None:
    actor = event(userIdentity={"accountId": "1"} | {"accountId": ""}, eventType="AwsServiceEvent").actor
    assert (actor.type, actor.id) == ("service", "iam.amazonaws.com")


# --- outcome and target -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "success"),
        ({"errorCode": "AccessDeniedException"}, "denied"),
        ({"errorCode": "Client.UnauthorizedOperation"}, "denied"),
        ({"errorCode": "AuthorizationError"}, "denied"),
        ({"errorCode": "VpceAccessDenied"}, "denied"),
        ({"errorCode": "ThrottlingException"}, "failure"),
        ({"errorCode": "InvalidAccessException"}, "failure"),
        ({"errorCode": 7}, "failure"),
        ({"errorMessage": "Failed authentication"}, "failure"),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Failure"}}, "failure"),
        ({"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Success"}}, "success"),
    ],
)
def test_how_it_ended(changes: dict[str, Any], outcome: str) -> None:
    """A failed console login carries no error code."""
    assert event(**changes).outcome == outcome


BUCKET = {"type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::logs"}
OBJECT = {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::logs/a/b"}


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({}, ("bob", "aws.iam.user")),
        ({"resources": [BUCKET, OBJECT]}, ("arn:aws:s3:::logs/a/b", "aws.s3.object")),
        ({"resources": [{"ARN": "arn:aws:iam::1:role/x"}]}, ("arn:aws:iam::1:role/x", "aws.iam.role")),
        ({"resources": [{"ARN": None}, "x"]}, ("bob", "aws.iam.user")),
        ({"requestParameters": None}, ("iam.amazonaws.com", "aws.iam")),
        ({"requestParameters": {"userName": "x" * 2000}}, ("iam.amazonaws.com", "aws.iam")),
        (
            {
                "eventSource": "ec2.amazonaws.com",
                "eventName": "TerminateInstances",
                "requestParameters": {"instancesSet": {"items": [{"instanceId": "i-1"}]}},
            },
            ("i-1", "aws.ec2.instance"),
        ),
        (
            {
                "eventSource": "ec2.amazonaws.com",
                "eventName": "DescribeSubnets",
                "requestParameters": {"filterSet": {"items": [{"name": "vpc-id"}]}},
            },
            ("ec2.amazonaws.com", "aws.ec2"),
        ),
        (
            {
                "eventSource": "ssm.amazonaws.com",
                "eventName": "GetDocument",
                "requestParameters": {"name": "AWS-X"},
            },
            ("AWS-X", "aws.ssm.document"),
        ),
    ],
)
def test_the_most_specific_resource_is_the_target(changes: dict[str, Any], target: tuple[str, str]) -> None:
    found = event(**changes).target
    assert (found.id, found.type) == target


def test_the_source_is_the_account_that_received_the_record() -> None:
    for changes, source in [
        ({}, "123456789012"),
        ({"recipientAccountId": None, "userIdentity": ALICE | {"accountId": "111122223333"}}, "111122223333"),
        ({"recipientAccountId": "../x", "userIdentity": ALICE | {"accountId": None}}, "unknown"),
    ]:
        found = to_event(record(**changes))
        assert found is not None and found[0] == f"import:cloudtrail:{source}"


@pytest.mark.parametrize("field", ["eventID", "eventTime", "eventSource", "eventName"])
def test_a_record_without_what_makes_it_one_is_refused(field: str) -> None:
    """S3's event notifications look alike and have no eventID."""
    with pytest.raises(MalformedError, match=field):
        event(**{field: None})


# --- context ------------------------------------------------------------------------------------------------


TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::1:root", "2"]}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"},
    ],
}


@pytest.mark.parametrize("encode", [lambda text: text, lambda text: text.replace('"', "%22").replace("{", "%7B")])
def test_policies_written_as_text_are_parsed_and_tell_whom_they_trust(encode: Any) -> None:
    found = context(
        eventName="UpdateAssumeRolePolicy",
        requestParameters={"roleName": "r", "policyDocument": encode(json.dumps(TRUST))},
    )
    assert found["request"]["policyDocument"] == TRUST
    assert found["principals"] == ["2", "arn:aws:iam::1:root", "ec2.amazonaws.com"]


def test_not_principal_trusts_everybody_else() -> None:
    policy = {"Statement": {"Effect": "Allow", "NotPrincipal": {"AWS": "x"}, "Action": "sts:AssumeRole"}}
    request = {"roleName": "r", "assumeRolePolicyDocument": json.dumps(policy)}
    assert context(eventName="CreateRole", requestParameters=request)["principals"] == ["*"]


@pytest.mark.parametrize("text", ["{", '{"a":1,"a":2}', "{" * 5000, "[1]", HIDDEN])
def test_a_policy_that_cannot_be_read_stays_as_found(text: str) -> None:
    found = context(eventName="UpdateAssumeRolePolicy", requestParameters={"policyDocument": text})
    assert found["request"]["policyDocument"] == text
    assert "principals" not in found


def test_a_grant_says_who_gets_what(catalog: Catalog) -> None:
    entry = catalog.actions["iam.attach_user_policy"]
    assert (entry.entitlement, entry.grantee) == ("context.request.policyArn", "context.request.userName")
    assert set(entry.required) == set()
    denied = event(requestParameters=None, errorCode="AccessDenied")
    catalog.check(denied)


SECRET = "wJalrXUtnFEMI0K7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    "request_parameters",
    [
        {"password": SECRET},
        {"PassWord": SECRET},
        {"masterUserPassword": {"value": SECRET}},
        {"secretString": SECRET},
        {"SecretBinary": SECRET},
        {"userData": SECRET},
        {"credentials": {"secretAccessKey": SECRET, "other": [SECRET], "sessionToken": SECRET}},
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
        {"note": f"Authorization: Bearer {SECRET}"},
        {"note": f"basic {SECRET}"},
        {"privateKey": SECRET},
        {"body": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"},
        {"url": f"https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA/x&X-Amz-Signature={SECRET}&X=1"},
        {"url": f"https://admin:{SECRET}@db.example/x"},
        {"parameters": [{"parameterKey": "DBPassword", "parameterValue": SECRET}]},
        {"environment": {"variables": {"HARMLESS_NAME": SECRET}}},
        {"environment": [{"name": "ANY", "value": SECRET}]},
        {"config": json.dumps({"a": {"password": SECRET}})},
        {"config": json.dumps({"password": f"two words {SECRET}"})},
        {"token": SECRET},
        {"x": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{SECRET}"},
        {"x": f"IQoJb3JpZ2luX2VjEC0aCXVzLWVhc3QtMSJ{SECRET}"},
        {"deep": [[[[[[[{"password": SECRET}]]]]]]]},
        {"z" * 300: SECRET},
    ],
)
def test_no_credential_enters_an_event(request_parameters: dict[str, Any]) -> None:
    for changes in (
        {"requestParameters": request_parameters},
        {"responseElements": request_parameters},
        {"additionalEventData": request_parameters},
        {"newerField": request_parameters},
    ):
        assert SECRET.encode() not in event_bytes(event(**changes))


def test_a_parameter_store_value_is_a_secret_whatever_its_look() -> None:
    for value in (SECRET, "arn:aws:iam::1:role/x", ["a", SECRET]):
        request = {"name": "/db", "value": value}
        found = context(eventSource="ssm.amazonaws.com", eventName="PutParameter", requestParameters=request)
        assert found["request"] == {"name": "/db", "value": "[redacted]"}


def test_messages_and_user_agents_are_searched_too() -> None:
    found = event(
        errorMessage=f"Not allowed. Encoded authorization failure message: {SECRET}",
        userAgent=f"curl?signature={SECRET}",
    )
    assert SECRET.encode() not in event_bytes(found)
    assert found.context["error_message"].endswith("message: [redacted]")


def test_what_is_no_secret_stays() -> None:
    """Auditors need the settings about passwords and keys, and the names of secrets."""
    request = {
        "minimumPasswordLength": 14,
        "passwordResetRequired": False,
        "secretId": "arn:aws:secretsmanager:us-east-1:1:secret:prod/db-AbCdEf",
        "clientRequestToken": "A-1",
        "metadataOptions": {"httpTokens": "required"},
        "masterUserPassword": HIDDEN,
        "policyNames": ["iam:ChangePassword", "secretsmanager:GetSecretValue"],
        "tags": [{"key": "team", "value": "billing"}],
    }
    response = {
        "credentials": {"accessKeyId": "ASIAEXAMPLE", "expiration": "Jul 10, 2023", "sessionToken": SECRET},
        "accessKey": {"accessKeyId": "AKIAEXAMPLE", "status": "Active", "userName": "bob"},
    }
    found = context(requestParameters=request, responseElements=response)
    assert found["request"] == request
    assert found["response"]["credentials"] == response["credentials"] | {"sessionToken": "[redacted]"}
    assert found["response"]["accessKey"] == response["accessKey"]


def test_the_context_names_mfa_and_keeps_fields_of_a_newer_version() -> None:
    assert context(userIdentity=role("carol"))["mfa"] is True
    assert context(additionalEventData={"MFAUsed": "No"})["mfa"] is False
    assert "mfa" not in context()
    assert context(eventContext={"a": 1})["other"] == {"eventContext": {"a": 1}}


def test_the_largest_part_gives_way_and_the_rest_stays() -> None:
    request = {"userName": "bob", "document": "x" * 50_000, "list": list(range(100))}
    found = context(requestParameters=request)["request"]
    assert found["document"].keys() == {"omitted", "bytes", "sha256"}
    assert (found["document"]["bytes"], found["userName"], found["list"]) == (50_002, "bob", list(range(100)))
    many = context(requestParameters={"userName": "bob", "many": {f"k{n}": n for n in range(9000)}})["request"]
    assert many["many"]["omitted"] == "too large"
    assert many["userName"] == "bob"


def test_too_deep_is_cut_where_the_depth_begins() -> None:
    found = context(requestParameters={"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}, "userName": "bob"})
    node = found["request"]
    for key in "abcde":
        node = node[key]
    assert node["f"]["omitted"] == "too deep"
    assert found["request"]["userName"] == "bob"


def test_numbers_past_a_double_stay_as_their_digits(tmp_path: Path) -> None:
    text = json.dumps(record(requestParameters={"a": 0, "b": 0, "c": 0, "d": 0})).replace(
        '"b": 0', '"b": 9007199254740993'
    )
    text = text.replace('"c": 0', '"c": 1e400').replace('"d": 0', '"d": ' + "9" * 5000)
    (found,), rejects, _ = read_all(written(tmp_path / "a.json", text))
    assert not rejects
    assert found[1].context["request"] == {"a": 0, "b": "9007199254740993", "c": "1e400", "d": "9" * 5000}


def test_characters_that_no_event_holds_are_replaced() -> None:
    found = context(requestParameters={"a\0": "x\0y", "b": "\ud800", "a\ufffd": 1, "c": {"$enc": "z"}})["request"]
    assert found == {"a\ufffd": "x\ufffdy", "b": "\ufffd", "a\ufffd~": 1, "c": {"$$enc": "z"}}


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(
            st.one_of(st.text(st.characters(codec=None)), st.sampled_from(["$enc", "name", "value"])), inner
        ),
    ),
    max_leaves=40,
)


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
@example({"$enc": {"$enc": 1}}, [[[[[[[[[[1]]]]]]]]]])
@example({"a": "\ud800" * 9000}, {"\0": "\0" * 20_000})
def test_no_parameters_ever_make_an_event_refused(parameters: Any, response: Any) -> None:
    found = event(requestParameters=parameters, responseElements=response, resources=parameters)
    assert parse_event(event_bytes(found)) == found


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(record())), VALUES))
def test_any_record_is_an_event_or_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    try:
        found = to_event(record(**changes))
    except MalformedError as error:
        assert str(error)
    else:
        assert found is not None
        assert parse_event(event_bytes(found[1])) == found[1]


# --- files: what is there is read, whatever its shape -----------------------------------------------------


def shapes(records: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    document = {"Records": records}
    lines = "\n".join(map(json.dumps, records))
    yield "a.json", json.dumps(document).encode()
    yield "a.json", json.dumps(document, indent=2).encode()
    yield "a.json", ("\ufeff" + json.dumps(document)).encode()
    yield "a.json", (json.dumps(document) + "\n").encode()
    yield "a.json", b'{"Records":[\n' + b",\n".join(json.dumps(r).encode() for r in records) + b"\n]}\n"
    yield "a.json.gz", gzip.compress(json.dumps(document).encode())
    yield "a.json.gz", b"".join(gzip.compress(json.dumps(r).encode() + b"\n") for r in records)
    yield "a.jsonl", lines.encode()
    yield "a.ndjson", (lines + "\n\n").replace("\n", "\r\n").encode()
    yield "a.log", json.dumps(document, indent=1).encode()
    yield "a.log.gz", gzip.compress(lines.encode())
    yield "a.json", json.dumps(records).encode()
    yield "a.json", "".join(json.dumps({"Records": [r]}) for r in records).encode()
    yield "a.jsonl", "\n".join(json.dumps({"Records": [r]}) for r in records).encode()
    yield "a.json", "\n".join(json.dumps(r, indent=1) for r in records).encode()


def test_every_shape_of_file_gives_the_same_events(tmp_path: Path) -> None:
    records = [record(eventID=f"e-{n}", requestParameters={"say": '"Records" [}'}) for n in range(3)]
    for number, (name, data) in enumerate(shapes(records)):
        events, rejects, sources = read_all(written(tmp_path / str(number) / name, data).parent)
        assert [found.event_id for _, found in events] == ["e-0", "e-1", "e-2"], (number, name)
        assert rejects == []
        assert [(file.name, file.events, file.size) for file in sources] == [(name, 3, len(data))]


def test_a_single_record_is_a_file(tmp_path: Path) -> None:
    for indent in (None, 2):
        events, rejects, _ = read_all(written(tmp_path / "a.json", json.dumps(record(), indent=indent)))
        assert (len(events), rejects) == (1, [])


def test_a_bad_line_costs_that_line_alone(tmp_path: Path) -> None:
    good = json.dumps(record()).encode()
    bad = [b'{"eventID": "cut', b"\xff\xfe", b"[[[", b"7", b'{"a":1} x', b"nonsense", b"NaN"]
    for order in (bad, bad[::-1]):
        data = b"\n".join(line for pair in zip(order, [good] * len(order), strict=True) for line in pair)
        events, rejects, (file,) = read_all(written(tmp_path / "a.jsonl", data))
        assert len(events) == len(bad)
        assert {reject.line for reject in rejects} == set(range(1, 2 * len(bad), 2))
        assert [reject.raw for reject in rejects] == order
        assert (file.events, file.rejects) == (len(bad), len(rejects))


def test_a_bad_record_costs_that_record_alone(tmp_path: Path) -> None:
    good = json.dumps(record())
    bad = [
        '{"a": nope}',
        "[" * 3000 + "]" * 3000,
        '{"eventID":"x","eventID":"y"}',
        "7",
        "NaN",
        '"x"',
        "{}",
        "truth",
    ]
    data = '{"Records":[' + ",".join(f"{text},{good}" for text in bad) + "]}"
    events, rejects, _ = read_all(written(tmp_path / "a.json", data))
    assert len(events) == len(bad)
    assert [reject.raw.decode() for reject in rejects] == bad
    assert [reject.index for reject in rejects] == list(range(0, 2 * len(bad), 2))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Readers disagree on which one counts, so a forger could show each what it should see."""
    text = json.dumps(record()).replace('"eventName"', '"eventName": "GetUser", "eventName"')
    events, (reject,), _ = read_all(written(tmp_path / "a.json", f'{{"Records":[{text}]}}'))
    assert not events
    assert "'eventName' stands twice" in reject.reason
    assert reject.raw.decode() == text


def test_nothing_hides_beside_or_behind_the_records(tmp_path: Path) -> None:
    one, two = json.dumps(record(eventID="e-1")), json.dumps(record(eventID="e-2"))
    twice = written(tmp_path / "a.json", f'{{"Records":[{one}],"Records":[{two}]}}')
    assert [found.event_id for _, found in read_all(twice)[0]] == ["e-1", "e-2"]
    beside = written(tmp_path / "b.json", f'{{"Records":[{one}],"eventID":"e-9"}}')
    events, (reject,), _ = read_all(beside)
    assert len(events) == 1
    assert reject.raw == b'{"eventID":"e-9"}'
    behind = written(tmp_path / "c.json", f'{{"Records":[{one}]}} garbage')
    events, rejects, _ = read_all(behind)
    assert (len(events), len(rejects)) == (1, 1)


@pytest.mark.parametrize("cut", [1, 2, 30, 400])
def test_a_document_cut_off_is_said_so(tmp_path: Path, cut: int) -> None:
    data = json.dumps({"Records": [record(eventID="e-1"), record(eventID="e-2")]}).encode()[:-cut]
    events, rejects, _ = read_all(written(tmp_path / "a.json", data))
    assert 1 <= len(events) <= 2
    assert len(rejects) == 1 or (cut == 1 and len(events) == 2)


def test_a_gzip_cut_off_or_damaged_is_a_reject_with_its_bytes(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps({"Records": [record()] * 50}).encode())
    damaged = whole[:-8] + bytes(4) + whole[-4:]
    for data in (whole[: len(whole) // 2], whole[:-4], damaged, whole[:12], whole + b"junk"):
        events, (reject,), (file,) = read_all(written(tmp_path / "a.json.gz", data))
        assert not events
        assert "cut off or damaged" in reject.reason
        assert (reject.raw, file.rejects) == (data, 1)
        assert base64.b64decode(json.loads(reject.jsonl())["raw_base64"]) == data


def test_a_gzip_bomb_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    (found,) = files.find([written(tmp_path / "a.json.gz", gzip.compress(b'{"Records":[' + b" " * 3_000_000 + b"]}"))])
    (reject,) = LogFile(found, _recognise, max_text_bytes=1_000_000)
    assert isinstance(reject, Reject)
    assert "more than 1,000,000 bytes" in reject.reason
    line = json.dumps(record()).encode() + b"\n"
    (found,) = files.find([written(tmp_path / "b.jsonl.gz", gzip.compress(line * 1000))])
    *entries, reject = LogFile(found, _recognise, max_unpacked_bytes=10 * len(line))
    assert sum(isinstance(entry, Entry) for entry in entries) == 10
    assert isinstance(reject, Reject) and "unpacks to more than" in reject.reason
    (found,) = files.find([written(tmp_path / "c.jsonl", line + b"x" * 5000 + b"\n" + line)])
    first, reject, last = LogFile(found, _recognise, max_text_bytes=4000)
    assert isinstance(first, Entry) and isinstance(last, Entry)
    assert isinstance(reject, Reject) and (reject.line, reject.size, reject.raw) == (2, 5001, b"")


def test_a_bomb_of_nothing_is_no_log(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    _, (reject,), (file,) = read_all(written(tmp_path / "a.json.gz", bomb))
    assert "no log" in reject.reason
    assert (reject.size, file.size) == (len(bomb), len(bomb))


def test_a_nesting_bomb_is_a_reject(tmp_path: Path) -> None:
    deep = "[" * 100_000
    for text in (
        f'{{"Records":[{json.dumps(record())},{deep}',
        f'{{"eventName":{deep}',
        '{"eventName":' * 50_000,
    ):
        events, rejects, _ = read_all(written(tmp_path / "a.json", text))
        assert len(events) <= 1
        assert rejects
    with pytest.raises(MalformedError, match="nested more than 100 levels"):
        node: Any = 1
        for _ in range(150):
            node = [node]
        event(requestParameters={"a": node})


def test_what_is_no_cloudtrail_is_refused_whole(tmp_path: Path) -> None:
    small = written(tmp_path / "small" / "package.json", '{\n "name": "x",\n "version": 1\n}\n')
    _, (reject,), (file,) = read_all(small.parent)
    assert (reject.line, reject.index, reject.raw) == (None, None, small.read_bytes())
    assert file.rejects == 1
    large = written(tmp_path / "large" / "app.log", b"x\n" * MAX_REJECT_BYTES)
    _, (reject,), (file,) = read_all(large.parent)
    told = json.loads(reject.jsonl())
    assert (told["file"], told["bytes"], told["sha256"]) == ("app.log", 2 * MAX_REJECT_BYTES, file.sha256)
    assert "raw" not in told


def test_digests_and_insights_are_skipped_and_said_so(tmp_path: Path) -> None:
    digest = {
        "awsAccountId": "1",
        "digestStartTime": "2023-07-10T11:00:00Z",
        "logFiles": [{"hashValue": "0"}],
    }
    insight = {
        "eventVersion": "1.07",
        "eventTime": "2023-07-10T11:00:00Z",
        "insightDetails": {"state": "Start"},
    }
    written(tmp_path / "AWSLogs/1/CloudTrail-Digest/d.json.gz", gzip.compress(json.dumps(digest).encode()))
    written(tmp_path / "AWSLogs/1/CloudTrail-Insight/i.json", json.dumps({"Records": [insight]}))
    written(tmp_path / "AWSLogs/1/CloudTrail/c.json", json.dumps({"Records": [record()]}))
    written(tmp_path / "AWSLogs/1/CloudTrail/empty.json", b"")
    events, rejects, sources = read_all(tmp_path)
    assert (len(events), rejects) == (1, [])
    told = {file.name.rsplit("/", 1)[-1]: (file.skipped, file.note) for file in sources}
    assert told["c.json"] == (0, None)
    assert told["empty.json"] == (0, "empty")
    assert told["i.json"] == (1, "CloudTrail Insights; no actions")
    assert "digest" in (told["d.json.gz"][1] or "")


def test_an_action_cannot_hide_as_an_insight() -> None:
    assert to_event(record(insightDetails={"state": "Start"}, eventCategory="Insight")) is not None


def test_symbolic_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside" / "secret.json", json.dumps(record()))
    folder = written(tmp_path / "logs" / "a.json", json.dumps(record())).parent
    (folder / "link.json").symlink_to(outside)
    (folder / "tree").symlink_to(outside.parent)
    (folder / "loop").symlink_to(folder)
    events, rejects, sources = read_all(folder)
    assert (len(events), rejects) == (1, [])
    notes = {file.name: file.note for file in sources}
    assert notes == {"a.json": None} | dict.fromkeys(("link.json", "loop", "tree"), "a symbolic link; not followed")


def test_a_path_that_gives_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match=r"no such file or folder\. Give the folder"):
        read([tmp_path / "missing"])
    with pytest.raises(MalformedError, match="no log is in this folder"):
        read([tmp_path])
    with pytest.raises(MalformedError, match="no path was given"):
        read([])
    with pytest.raises(MalformedError, match="known are cloudtrail"):
        reader("okta-typo")


def test_files_are_read_once_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.json", "a/9.json", "a/10.json"):
        written(tmp_path / name, json.dumps(record(eventID=name.replace("/", "-"))))
    ticks: list[tuple[int, int]] = []
    items = list(read([tmp_path, tmp_path / "b"], progress=lambda done, total: ticks.append((done, total))))
    names = [item.name for item in items if isinstance(item, SourceFile)]
    assert names == ["a/10.json", "a/9.json", "b/2.json"]
    assert len(ticks) == 3 and ticks[-1][0] == ticks[-1][1]


def test_rejects_are_verbatim_and_for_their_owner_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "rejects.jsonl", b"older")
    path.chmod(0o644)
    raw = '{"eventID": "é", "x": "\\u0000"}'.encode()
    with files.create_rejects(path) as out:
        out.write(Reject.of("a.json", 3, None, "why", raw).jsonl())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["raw"].encode() == raw


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        " ",
        "\n",
        "7",
        "NaN",
        '"Records"',
        '"eventName"',
        '"eventID":"e"',
        "é",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(PIECES, st.just(json.dumps(record()))), max_size=30).map("".join))
def test_no_bytes_make_the_reader_fail_or_hang(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.mktemp("fuzz") / "a.json", '{"Records":[' + text)
    events, rejects, (file,) = read_all(path)
    assert (file.events, file.rejects) == (len(events), len(rejects))
    assert all(reject.jsonl() for reject in rejects)
