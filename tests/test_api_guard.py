"""Who may use the HTTP interface: every way in which a request can come from where it should not."""

from typing import Any

import pytest

from procclaw.interface.api.guard import Asked, name_of, refusal
from procclaw.model.spec import Access

NAMES = frozenset({"box", "box.lan"})
OPEN = Access()
WITH_TOKEN = Access("s3cret-tökén")
BEARER: dict[str, Any] = {"authorization": "Bearer " + "s3cret-tökén".encode().decode("latin-1")}


def judged(
    method: str = "GET",
    path: str = "/api/v1/jobs",
    access: Access = OPEN,
    *,
    has_body: bool = False,
    may_serve: bool = True,
    local: str = "127.0.0.1",
    **headers: str,
) -> tuple[int, str] | None:
    given = {"host": "localhost:9876"} | {name.replace("_", "-"): value for name, value in headers.items()}
    found = refusal(Asked(method, path, given, has_body, local), access, NAMES, lambda: may_serve)
    return None if found is None else found[:2]


# --- the name by which the server was addressed ---


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9876", "LOCALHOST:1", "127.0.0.1:9876", "[::1]:9876", "box:9876", "box.lan"]
)
def test_a_server_on_loopback_is_known_by_its_names_at_any_port(host: str) -> None:
    assert judged(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:9876",
        "localhost.evil.example",
        "localhost@evil.example",
        "127.0.0.1.evil.example:9876",
        "127.0.0.2",
        "0.0.0.0:9876",
        "[::]:9876",
        "::1",
        "localhost:",
        "localhost:9876:9876",
        "localhost, evil.example",
        "localhost.",
        "box.evil",
    ],
)
def test_a_name_that_somebody_else_may_have_made_is_refused(host: str) -> None:
    assert judged(host=host) == (403, "wrong_host")


def test_a_server_that_others_reach_is_known_by_its_own_address_and_not_as_localhost() -> None:
    assert judged(local="192.0.2.7", host="192.0.2.7:9876") is None
    assert judged(local="192.0.2.7", host="192.0.2.8:9876") == (403, "wrong_host")
    assert judged(local="192.0.2.7", host="localhost:9876") == (403, "wrong_host")
    assert judged(local="2001:db8::7", host="[2001:DB8:0::7]:9876") is None
    assert judged(local="::ffff:127.0.0.1", host="localhost:9876") is None


def test_further_names_can_be_allowed_with_or_without_their_port() -> None:
    access = Access(allowed_hosts=("Claw.example", "other.example:8443"))
    assert judged(access=access, host="claw.example:443") is None
    assert judged(access=access, host="other.example:8443") is None
    assert judged(access=access, host="other.example:9876") == (403, "wrong_host")


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:b", "a:b")],
)
def test_the_port_is_no_part_of_a_name(host: str, name: str) -> None:
    assert name_of(host) == name


# --- the page that made a browser ask ---


@pytest.mark.parametrize("origin", ["http://localhost:9876", "https://localhost:9876", "HTTP://LOCALHOST:9876"])
def test_our_own_page_may_ask(origin: str) -> None:
    assert judged("POST", origin=origin, sec_fetch_site="same-origin") is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:9876",
        "http://localhost:9876.evil.example",
        "file://",
        "chrome-extension://abc",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_page_of_another_origin_may_not(origin: str, method: str) -> None:
    assert judged(method, origin=origin) == (403, "other_site")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
@pytest.mark.parametrize("path", ["/", "/health", "/api/v1/jobs"])
def test_a_browser_that_comes_from_another_site_is_refused_everywhere(site: str, path: str) -> None:
    assert judged(path=path, sec_fetch_site=site) == (403, "other_site")


def test_an_address_that_a_person_typed_is_fine() -> None:
    assert judged(path="/", sec_fetch_site="none") is None


# --- what a page can send without asking ---


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "application/jsonx",
        "*/*",
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("has_body", [True, False])
def test_a_form_changes_nothing(kind: str, method: str, has_body: bool) -> None:
    assert judged(method, content_type=kind, has_body=has_body) == (415, "not_json")


def test_a_body_needs_its_kind_and_none_needs_nothing() -> None:
    assert judged("POST", has_body=True) == (415, "not_json")
    assert judged("POST") is None
    assert judged("POST", has_body=True, content_type="application/json; charset=utf-8") is None
    assert judged("POST", has_body=True, content_type="Application/JSON") is None


# --- who ---


def test_without_a_token_only_processes_of_the_same_user_are_served_anything_at_all() -> None:
    for path in ("/", "/health", "/metrics", "/api/v1/jobs", "/nowhere"):
        assert judged(path=path, may_serve=False) == (403, "other_user")
        assert judged(path=path) is None


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/api/v1/jobs", "/api/v1/trigger/x", "/nowhere"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer s3cret", "Bearer s3cret-token2", "Basic s3cret-token", "s3cret-token"],
)
def test_a_token_opens_what_nothing_else_does(path: str, authorization: str | None) -> None:
    access = Access("s3cret-token")
    given: Any = {} if authorization is None else {"authorization": authorization}
    assert judged(path=path, access=access, may_serve=True, **given) == (401, "no_token")
    assert judged(path=path, access=access, may_serve=False, authorization="bearer s3cret-token") is None


def test_a_guess_is_compared_as_a_whole_however_much_of_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    for guess in ("x", "s3cret", "s3cret-toke", "s3cret-token"):
        judged(access=Access("s3cret-token"), authorization=f"Bearer {guess}")
    assert [given for given, _ in compared] == [b"x", b"s3cret", b"s3cret-toke", b"s3cret-token"]


def test_a_token_may_have_any_characters() -> None:
    assert judged(access=WITH_TOKEN, **BEARER) is None
    assert judged(access=WITH_TOKEN, authorization="Bearer s3cret-t") == (401, "no_token")


def test_the_page_and_the_health_are_open_beside_a_token_and_metrics_if_so_said() -> None:
    for path in ("/", "/health"):
        assert judged(path=path, access=WITH_TOKEN, may_serve=False) is None
    assert judged(path="/metrics", access=WITH_TOKEN, may_serve=False) == (401, "no_token")
    assert judged(path="/metrics", access=WITH_TOKEN._replace(is_metrics_open=True), may_serve=False) is None


def test_a_token_does_not_help_a_page_of_another_site() -> None:
    assert judged(access=WITH_TOKEN, origin="http://evil.example", **BEARER) == (403, "other_site")
    assert judged(access=WITH_TOKEN, host="evil.example", **BEARER) == (403, "wrong_host")
