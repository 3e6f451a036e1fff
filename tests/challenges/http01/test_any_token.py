from __future__ import annotations

import secrets
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbot_standalone_nfq.challenges.http01 import host
from certbot_standalone_nfq.challenges.http01.any_token import MAX_TOKEN, MIN_TOKEN, AnyTokenSolver
from certbot_standalone_nfq.challenges.http01.conversation import MAX_HEAD, Http01Conversation
from certbot_standalone_nfq.engine.protocols import UNDECIDED, Answer, ChallengeId, Recognition

ALPHABET = string.ascii_letters + string.digits + "-_"
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
NAMES = ("example.com", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example")
tokens = st.text(ALPHABET, min_size=MIN_TOKEN, max_size=MAX_TOKEN)


def request(*fields: str, token: str = TOKEN, version: str = "HTTP/1.1") -> bytes:
    head = f"GET /.well-known/acme-challenge/{token} {version}\r\n" + "".join(f"{field}\r\n" for field in fields)
    return f"{head}\r\n".encode()


REQUEST = request("User-Agent: test", "Host: example.com", "Accept: */*")


@pytest.fixture
def solver() -> AnyTokenSolver:
    return solving(*NAMES)


def solving(*names: str) -> AnyTokenSolver:
    made = AnyTokenSolver()
    for name in names:
        made.add(name, THUMBPRINT)
    return made


def answer(recognition: Recognition, whole: bytes) -> tuple[str, Answer | None]:
    """Return the body of the answer to a request that was recognised, and what is told of it."""
    assert isinstance(recognition, Http01Conversation)
    output = recognition.receive(whole, ended=False)
    assert output.close
    return output.data.partition(b"\r\n\r\n")[2].decode(), output.answer


def test_any_token_is_answered_with_the_thumbprint(solver: AnyTokenSolver) -> None:
    for token in (TOKEN, secrets.token_urlsafe(32), "a" * MIN_TOKEN, "-" * MAX_TOKEN):
        whole = request("Host: example.com", token=token)
        said = answer(solver.recognise(whole), whole)
        assert said == (f"{token}.{THUMBPRINT}", Answer(ChallengeId("http-01", token), name="example.com"))


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("Host: example.com:80", "example.com"),
        ("Host: example.com:5002", "example.com"),
        ("Host: example.com:", "example.com"),
        ("Host: example.com.", "example.com"),
        ("host:EXAMPLE.com", "example.com"),
        ("HOST:\t Example.Com \t", "example.com"),
        ("Host: xn--BCHER-kva.example", "xn--bcher-kva.example"),
        ("Host: 192.0.2.1", "192.0.2.1"),
        ("Host: 192.0.2.1:80", "192.0.2.1"),
        ("Host: [2001:db8::1]", "2001:db8::1"),
        ("Host: [2001:DB8:0:0::1]:80", "2001:db8::1"),
    ],
)
def test_the_host_field_names_who_is_asked_with_or_without_a_port(
    solver: AnyTokenSolver, field: str, name: str
) -> None:
    whole = request(field)
    _, told = answer(solver.recognise(whole), whole)
    assert told
    assert told.name == name


@pytest.mark.parametrize(
    "other",
    [
        request("Host: other.example"),
        request("Host: www.example.com"),
        request("Host: example.com.evil.example"),
        request("Host: example.com@evil.example"),
        request("Host: example.com:80:80"),
        request("Host: example.com, example.com"),
        request("Host: http://example.com"),
        request("Host: 2001:db8::1"),
        request("Host: [example.com]"),
        request("Host: [2001:db8::1"),
        request("Host:"),
        request("Host"),
        request("Hostess: example.com"),
        request(),
        request("Accept: */*"),
        request("Host: example.com", "Host: example.com"),
        request("Host: example.com", "Host : other.example"),
        request("Host: example.com", "X: y", "host: other.example"),
        request("Host: other.example", "Host: example.com"),
        request("Host: example.com", " folded"),
        request(" Host: example.com", "Host: example.com"),
        request() + request("Host: example.com"),
        request("Host: example.com", token=TOKEN + "?x"),
        request("Host: example.com", token=TOKEN + "/"),
        request("Host: example.com", token=TOKEN + "="),
        request("Host: example.com", token=TOKEN + "%41"),
        request("Host: example.com", token="../" + TOKEN),
        request("Host: example.com", token=""),
        request("Host: example.com", token="index.html"),
        request("Host: example.com", token="a" * (MIN_TOKEN - 1)),
        request("Host: example.com", token="a" * (MAX_TOKEN + 1)),
        request("Host: example.com", version="HTTP/2.0"),
        request("Host: example.com", version="HTTP/1.10"),
        request("Host: example.com", version="HTTP/1.1 "),
        request("Host: example.com", version=""),
        request("Host: example.com").replace(b"GET", b"HEAD"),
        request("Host: example.com").replace(b"GET", b"get"),
        request("Host: example.com").replace(b"GET /", b"GET http://example.com/"),
        request("Host: example.com").replace(b"GET ", b"GET  "),
        b"\r\n" + request("Host: example.com"),
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
)
def test_all_else_is_the_servers(solver: AnyTokenSolver, other: bytes) -> None:
    assert solver.recognise(other) is None


def test_what_follows_a_request_makes_no_difference(solver: AnyTokenSolver) -> None:
    assert isinstance(solver.recognise(REQUEST + request("Host: other.example")), Http01Conversation)
    assert isinstance(solver.recognise(REQUEST + b"\0" * 20000), Http01Conversation)


def test_a_request_of_ours_is_undecided_until_its_head_ends_wherever_it_is_cut(solver: AnyTokenSolver) -> None:
    for cut in range(1, len(REQUEST)):
        assert solver.recognise(REQUEST[:cut]) is UNDECIDED
    assert isinstance(solver.recognise(REQUEST), Http01Conversation)


def test_what_decides_early_waits_for_the_host_field_alone(solver: AnyTokenSolver) -> None:
    solver.decides_early = True
    enough = REQUEST.index(b"Accept")
    for cut in range(1, len(REQUEST)):
        conversation = solver.recognise(REQUEST[:cut])
        assert (conversation is UNDECIDED) == (cut < enough)
        if isinstance(conversation, Http01Conversation):
            assert not conversation.receive(REQUEST[:cut], ended=False).data
            assert conversation.receive(REQUEST[cut:], ended=False).data.endswith(f"{TOKEN}.{THUMBPRINT}".encode())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_lines_may_end_as_servers_take_them(solver: AnyTokenSolver, end: bytes, version: str) -> None:
    whole = REQUEST.replace(b"\r\n", end).replace(b"HTTP/1.1", version.encode())
    assert answer(solver.recognise(whole), whole)[0] == f"{TOKEN}.{THUMBPRINT}"
    assert {solver.recognise(whole[:cut]) for cut in range(1, len(whole))} == {UNDECIDED}


def test_another_names_request_is_left_alone_as_soon_as_its_host_field_is_there(solver: AnyTokenSolver) -> None:
    whole = request("Host: other.example", "Accept: */*")
    decided = whole.index(b"Accept")
    for cut in range(1, len(whole)):
        assert solver.recognise(whole[:cut]) is (UNDECIDED if cut < decided else None)


def test_another_path_is_left_alone_at_its_first_other_byte(solver: AnyTokenSolver) -> None:
    whole = REQUEST.replace(TOKEN.encode(), TOKEN.encode() + b"/")
    slash = whole.index(TOKEN.encode()) + len(TOKEN)
    assert solver.recognise(whole[:slash]) is UNDECIDED
    assert solver.recognise(whole[: slash + 1]) is None


def test_a_token_that_is_too_short_is_left_alone_at_its_end(solver: AnyTokenSolver) -> None:
    short = request("Host: example.com", token="a" * 21)
    end = short.index(b" HTTP")
    assert solver.recognise(short[:end]) is UNDECIDED
    assert solver.recognise(short[: end + 1]) is None
    assert solver.recognise(request("Host: example.com", token="a" * 22)) is not None


def test_a_line_that_may_go_on_the_one_before_counts_once_it_is_whole(solver: AnyTokenSolver) -> None:
    folded = request("Host: example.com", " folded")
    end = folded.index(b"folded") + len(b"folded\r\n")
    assert solver.recognise(folded[: end - 1]) is UNDECIDED
    assert solver.recognise(folded[:end]) is None


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (b"Host: a\r\nhost:b\r\n", [b"a", b"b"]),
        (b"Host\r\nHostess: a\r\n", []),
        (b" Host: a\r\n", None),
        (b"X: y\r\n\tHost: a\r\n", None),
    ],
)
def test_host_fields_are_read_unless_lines_are_ambiguous(lines: bytes, values: list[bytes] | None) -> None:
    assert host.hosts(lines) == values


def test_a_head_without_end_is_left_alone(solver: AnyTokenSolver) -> None:
    endless = request("Host: example.com", "X: " + "x" * MAX_HEAD)
    assert solver.recognise(endless[: MAX_HEAD - 1]) is UNDECIDED
    assert solver.recognise(endless[:MAX_HEAD]) is None


def test_a_token_that_another_run_claims_is_left_to_it() -> None:
    solver = AnyTokenSolver(lambda token: token == TOKEN)
    solver.add("example.com", THUMBPRINT)
    assert solver.recognise(REQUEST) is None
    other = request("Host: example.com", token=TOKEN[::-1])
    assert isinstance(solver.recognise(other), Http01Conversation)


def test_each_name_has_its_own_thumbprint_and_can_be_given_another() -> None:
    solver = solving("example.com")
    solver.add("other.example", THUMBPRINT[::-1])
    solver.add("example.com", "A" * 43)
    for name, thumbprint in (("example.com", "A" * 43), ("other.example", THUMBPRINT[::-1])):
        whole = request(f"Host: {name}")
        assert answer(solver.recognise(whole), whole)[0] == f"{TOKEN}.{thumbprint}"


def test_a_name_that_is_removed_is_the_servers_again() -> None:
    solver = solving("example.com", "other.example")
    solver.remove("example.com")
    solver.remove("example.com")
    assert solver.recognise(REQUEST) is None
    assert isinstance(solver.recognise(request("Host: other.example")), Http01Conversation)
    solver.remove("other.example")
    assert solver.recognise(b"") is None


def test_the_longest_name_there_can_be_is_answered_for() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    whole = request(f"Host: {name}")
    assert isinstance(solving(name).recognise(whole), Http01Conversation)


@pytest.mark.parametrize("name", ["", "*.example.com", "exa mple", "example..com", "bücher.example", "a" * 254, "x:y"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        AnyTokenSolver().add(name, THUMBPRINT)


@pytest.mark.parametrize("thumbprint", ["", "short", THUMBPRINT + "x", THUMBPRINT[:-1] + "="])
def test_a_thumbprint_that_is_none_is_refused(thumbprint: str) -> None:
    with pytest.raises(ValueError, match="not an account's thumbprint"):
        AnyTokenSolver().add("example.com", thumbprint)


def test_what_is_pending_is_named_as_in_a_host_field(solver: AnyTokenSolver) -> None:
    assert solver.pending_keys() == [b"example.com", b"192.0.2.1", b"[2001:db8::1", b"xn--bcher-kva.example"]
    assert solver.key("EXAMPLE.com", "token") == "example.com"


def test_what_asks_for_a_challenge_is_known_under_whatever_name(solver: AnyTokenSolver) -> None:
    whole = request("Host: other.example")
    assert solver.challenge_in(whole) == ChallengeId("http-01", TOKEN)
    assert solver.challenge_in(b"GET / HTTP/1.1\r\n\r\n") is None
    assert solver.is_altered(request("Host: other.example", token=TOKEN + "?x"))
    assert not solver.is_altered(whole)


@given(st.binary(max_size=400), st.integers(0, len(REQUEST)))
def test_arbitrary_bytes_raise_nothing(noise: bytes, cut: int) -> None:
    solver = solving(*NAMES)
    for start in (noise, REQUEST[:cut] + noise, noise + REQUEST):
        solver.recognise(start)
        solver.challenge_in(start)
        solver.is_altered(start)


@given(tokens, st.sampled_from(NAMES))
def test_what_is_recognised_is_selected(token: str, name: str) -> None:
    (selector,) = AnyTokenSolver.selectors(80)
    whole = request(f"Host: {name}", token=token)
    assert all(selector.matches(whole[:cut]) for cut in range(1, len(whole) + 1))
