"""JSON against messages: whatever a saga computes and whatever a service replies, the answer is an outcome and never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.participants.calls.fit import UNRESOLVED, misfits
from saga_coordinator.participants.calls.plain_method import encode_plain_request, outcome_of_plain_reply
from saga_coordinator.saga.words.outcome import Succeeded, Unknown
from saga_coordinator.wire.payload import PayloadError
from tests.integration.participants.plain_services import method_of

EVERYTHING = {
    "all.proto": """
        syntax = "proto3";
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        service All {
          rpc Every(Message) returns (Message);
          rpc Say(google.protobuf.Value) returns (google.protobuf.StringValue);
        }
        enum Kind { KIND_NONE = 0; KIND_BOOK = 1; }
        message Message {
          string text = 1; int32 small = 2; int64 large = 3; uint64 positive = 4; double number = 5; float short = 6;
          bool flag = 7; bytes raw = 8; Kind kind = 9; Message inner = 10; repeated Message inners = 11;
          map<string, int32> counts = 12; map<int32, Message> by_number = 13; map<bool, Kind> by_flag = 14;
          google.protobuf.Any any = 15; google.protobuf.Duration span = 16; google.protobuf.FieldMask mask = 17;
          google.protobuf.Struct object = 18; google.protobuf.Value value = 19; google.protobuf.ListValue list = 20;
          google.protobuf.Timestamp at = 21; google.protobuf.Int64Value maybe = 22; repeated google.protobuf.Value values = 23;
          oneof one { string left = 24; int32 right = 25; } optional int32 present = 26;
          repeated bytes raws = 27; map<string, bytes> raw_by_name = 28; google.protobuf.BytesValue maybe_raw = 29;
        }
    """
}
EVERY = method_of("All/Every", EVERYTHING)
SAY = method_of("All/Say", EVERYTHING)
NAMES = [field.name for field in EVERY.request.DESCRIPTOR.fields]

finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
"""No -0.0, which is 0 in every payload."""
scalars = (st.none() | st.booleans() | st.integers() | finite | st.text()) | st.sampled_from(
    ["7", "1.5s", "2026-01-02T03:04:05Z", "KIND_BOOK", "AAE=", "NaN", "a.b", "\ud800"]
)
payloads = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*NAMES, "@type", "1", "true", "[x.y]"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=12,
)
messages = st.dictionaries(st.sampled_from(NAMES), payloads, max_size=5)


@given(messages | payloads)
def test_any_payload_is_sent_or_refused(payload: Any) -> None:
    for method in (EVERY, SAY):
        try:
            encode_plain_request(method, payload)
        except PayloadError:
            continue


@given(messages)
def test_what_has_no_fault_is_sent(payload: dict[str, Any]) -> None:
    if not misfits(payload, EVERY):
        encode_plain_request(EVERY, payload)


@given(messages)
def test_what_is_not_known_yet_fits_everywhere(payload: dict[str, Any]) -> None:
    assert misfits(dict.fromkeys(payload.keys() - {"left", "right"}, UNRESOLVED), EVERY) == []


@given(messages)
def test_what_was_sent_comes_back_or_is_unknown(payload: dict[str, Any]) -> None:
    try:
        request = encode_plain_request(EVERY, payload)
    except PayloadError:
        return
    outcome = outcome_of_plain_reply(EVERY, request, 1_000_000)
    assert isinstance(outcome, Succeeded | Unknown)
    if isinstance(outcome, Succeeded):
        # -0.0 and fields given as their defaults are the same message, so messages are what is compared.
        again = EVERY.request.FromString(encode_plain_request(EVERY, outcome.output))
        assert again == EVERY.request.FromString(request) or "nan" in str(again)


@given(st.binary(max_size=200))
def test_any_reply_is_kept_or_unknown(reply: bytes) -> None:
    for method in (EVERY, SAY):
        assert isinstance(outcome_of_plain_reply(method, reply, 1_000_000), Succeeded | Unknown)


def test_every_fault_is_told_with_its_place() -> None:
    payload = {
        "text": 1,
        "inner": {"txet": "a", "small": UNRESOLVED},
        "inners": [{"large": "x"}, 7, {"object": {"a": UNRESOLVED}}],
        "counts": {"a": 2**31, "b": UNRESOLVED},
        "by_number": {"1": {"flag": "yes"}},
        "left": "a",
        "right": UNRESOLVED,
        "values": [None, {"a": [1]}, UNRESOLVED],
        "span": "soon",
    }
    found = [(fault.path, fault.description.partition(":")[0]) for fault in misfits(payload, EVERY, "input")]
    assert found == [
        ("input.by_number.1.flag", "is no bool"),
        ("input.counts.a", "is no int32"),
        ("input.inner.txet", "is not a field of Message; it has"),
        ("input.inners[0].large", "is no int64"),
        ("input.inners[1]", "must be an object"),
        ("input.right", "cannot be given beside `left`"),
        ("input.span", "is no google.protobuf.Duration"),
        ("input.text", "is no string"),
    ]


@pytest.mark.parametrize(
    ("payload", "request_bytes"),
    [("said", b"\x1a\x04said"), (None, b"\x08\x00"), ([], b"\x32\x00"), (True, b"\x20\x01")],
)
def test_a_request_whose_json_is_no_object(payload: Any, request_bytes: bytes) -> None:
    assert encode_plain_request(SAY, payload) == request_bytes


def test_a_reply_whose_json_is_no_object() -> None:
    assert outcome_of_plain_reply(SAY, b"\x0a\x04said", 100) == Succeeded("said")


def test_a_required_field_of_proto2_that_is_missing_is_told() -> None:
    files = {
        "two.proto": """
            syntax = "proto2";
            service Two { rpc Call(Asked) returns (Asked); }
            message Asked { required string who = 1; optional int32 count = 2 [default = 7]; extensions 100 to 200; }
            extend Asked { optional string more = 100; }
        """
    }
    method = method_of("Two/Call", files)
    with pytest.raises(PayloadError, match="missing required fields: who"):
        encode_plain_request(method, {"count": 1})
    request = encode_plain_request(method, {"who": "a", "[more]": "b"})
    assert outcome_of_plain_reply(method, request, 100) == Succeeded({"who": "a", "[more]": "b"})


def test_an_edition_is_as_good_as_a_syntax() -> None:
    files = {
        "edition.proto": """
            edition = "2023";
            service Third { rpc Call(Asked) returns (Asked); }
            message Asked { string who = 1; int32 count = 2 [features.field_presence = IMPLICIT]; }
        """
    }
    method = method_of("Third/Call", files)
    request = encode_plain_request(method, {"who": "a"})
    assert outcome_of_plain_reply(method, request, 100) == Succeeded({"who": "a", "count": 0})


def test_any_holds_what_the_services_own_files_describe() -> None:
    given = {"any": {"@type": "type.googleapis.com/Message", "text": "a"}}
    request = encode_plain_request(EVERY, given)
    outcome = outcome_of_plain_reply(EVERY, request, 10_000)
    assert isinstance(outcome, Succeeded)
    assert outcome.output["any"]["text"] == "a"
    with pytest.raises(PayloadError, match=r"any: is no google.protobuf.Any: .*Elsewhere"):
        encode_plain_request(EVERY, {"any": {"@type": "type.googleapis.com/Elsewhere"}})


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"raw": "!!!"}, "raw"),
        ({"raw": "not base64"}, "raw"),
        ({"raw": "AAE=="}, "raw"),
        ({"raw": "A"}, "raw"),
        ({"raw": "AA\n=="}, "raw"),
        ({"raws": ["AAE=", "ä"]}, "raws[1]"),
        ({"rawByName": {"a": "%"}}, "rawByName.a"),
        ({"maybe_raw": "?"}, "maybe_raw"),
        ({"inner": {"inners": [{}, {"raw": "#"}]}}, "inner.inners[1].raw"),
        ({"by_number": {"7": {"raw": "~"}}}, "by_number.7.raw"),
    ],
)
def test_what_is_no_base64_is_no_bytes(payload: dict[str, Any], path: str) -> None:
    """Protobuf's parser leaves out what it does not know: the service would get other bytes, or none."""
    with pytest.raises(PayloadError) as caught:
        encode_plain_request(EVERY, payload)
    assert f"{path}: is no bytes: a field of bytes takes base64" in str(caught.value)
    assert [fault.path for fault in misfits(payload, EVERY)] == [path]


@pytest.mark.parametrize("written", ["", "AAE=", "AAE", "-_-_", "+/+/", "AA==", "AA", None, UNRESOLVED])
def test_base64_of_either_alphabet_is_bytes(written: Any) -> None:
    assert misfits({"raw": written}, EVERY) == []
    if written is not UNRESOLVED:
        encode_plain_request(EVERY, {"raw": written, "raws": [] if written is None else [written]})


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"inner": {"large": "12x"}}, "is no int64: it takes a whole number from -2^63 to 2^63-1"),
        ({"counts": {"a": "many"}}, "is no int32: it takes a whole number from -2^31 to 2^31-1"),
        ({"span": "soon"}, 'is no google.protobuf.Duration: it takes a text such as "1.5s"'),
    ],
)
def test_what_does_not_fit_is_told_in_words_of_the_contract(payload: Any, said: str) -> None:
    assert any(said in str(fault) for fault in misfits(payload, EVERY)), misfits(payload, EVERY)
