"""URLs as they are connected to, sent and shown."""

import pytest

from procclaw.model.urls import Url, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h", Url("http", "h", 80, "h", "/", "", None)),
        ("HTTPS://H.example:8443/a?b=c#d", Url("https", "h.example", 8443, "h.example:8443", "/a", "?b=c", None)),
        ("http://[::1]:8000/x", Url("http", "::1", 8000, "[::1]:8000", "/x", "", None)),
        ("http://[fe80::1%25eth0]/", Url("http", "fe80::1%eth0", 80, "[fe80::1]", "/", "", None)),
        ("http://me:p%40ss@h/", Url("http", "h", 80, "h", "/", "", "Basic bWU6cEBzcw==")),
        ("http://me@h/", Url("http", "h", 80, "h", "/", "", "Basic bWU6")),
        ("http://h/a b%20c", Url("http", "h", 80, "h", "/a%20b%20c", "", None)),
        (
            "http://bücher.example/ö?ä=1",
            Url("http", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/%C3%B6", "?%C3%A4=1", None),
        ),
        # Nothing in it can begin another line of the request.
        ("http://h/a\r\nX: y\0", Url("http", "h", 80, "h", "/aX:%20y%00", "", None)),
    ],
)
def test_a_url_is_taken_apart(text: str, url: Url) -> None:
    assert parse_url(text) == url


def test_what_may_be_secret_is_not_shown() -> None:
    url = parse_url("https://me:hush@h.example:8443/path/hush?key=hush")
    assert url.shown == "https://h.example:8443/path/hush"
    assert url.origin == "https://h.example:8443"
    assert url.request_target == "/path/hush?key=hush"


@pytest.mark.parametrize(
    "text",
    [
        *("", "h", "/path", "ftp://h/", "http://", "http:///x", "http://[::1/", "http://h:x/", "http://h:99999/"),
        *("http://a b/", "http://a%00b/", "http://me:pa/ss@h/"),
    ],
)
def test_what_is_no_url_of_http_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(text)
