"""What of a configuration is shown: all but what is or may be a secret."""

from typing import Any

import pytest

from procclaw.model.clock import SystemClock
from procclaw.model.masking import masked, masked_at, without_secrets


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (
            {"api": {"auth": {"enabled": True, "token": "s3cret"}}},
            {"api": {"auth": {"enabled": True, "token": "****"}}},
        ),
        ({"auth_token": "x", "hmac_secret": 7}, {"auth_token": "****", "hmac_secret": "****"}),
        ({"token": None, "auth_token": ""}, {"token": None, "auth_token": ""}),
        ({"token": "${secret:API}"}, {"token": "${secret:API}"}),
        ({"webhook": "https://hooks.example/T1/B2/abc"}, {"webhook": "https://hooks.example/****"}),
        ({"webhook": "https://hooks.example"}, {"webhook": "https://hooks.example"}),
        ({"webhook": "hooks.example/T1/B2/abc"}, {"webhook": "hooks.example/****"}),
        ({"webhook": None}, {"webhook": None}),
        ({"url": "http://me:pass@host/health"}, {"url": "http://me:****@host/health"}),
        ({"cmd": ["psql", "postgres://u:p@h/db"]}, {"cmd": ["psql", "postgres://u:****@h/db"]}),
        ({"cmd": "curl http://127.0.0.1:80/a@b"}, {"cmd": "curl http://127.0.0.1:80/a@b"}),
        (
            {"env": {"DB_PASSWORD": "x", "GITHUB_TOKEN": "y", "AWS_ACCESS_KEY": "z", "LANG": "C", "KEYBOARD": "de"}},
            {
                "env": {
                    "DB_PASSWORD": "****",
                    "GITHUB_TOKEN": "****",
                    "AWS_ACCESS_KEY": "****",
                    "LANG": "C",
                    "KEYBOARD": "de",
                }
            },
        ),
        ({"env": {"TOKEN": "${secret:T}", "EMPTY_SECRET": ""}}, {"env": {"TOKEN": "${secret:T}", "EMPTY_SECRET": ""}}),
        (
            {"params": {"api_key": {"default": "x", "description": "of the shop"}, "day": {"default": "1"}}},
            {"params": {"api_key": {"default": "****", "description": "of the shop"}, "day": {"default": "1"}}},
        ),
        ({"retry": {"delays": [1, 2], "enabled": True}}, {"retry": {"delays": [1, 2], "enabled": True}}),
    ],
)
def test_a_secret_is_shown_as_stars_and_all_else_as_it_is(document: Any, shown: Any) -> None:
    assert masked(document) == shown
    assert masked({"jobs": {"a": [document]}}) == {"jobs": {"a": [shown]}}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("api", "auth", "token"), "s3cret", "****"),
        (("api", "auth", "token"), 12345, "****"),
        (("jobs", "a", "trigger", 0, "hmac_secret"), "s3cret", "****"),
        (("jobs", "a", "params", "API_KEY", "default"), "s3cret", "****"),
        (("jobs", "DB_PASSWORD"), "s3cret", "****"),
        (("jobs", "a", "env"), "DB_PASSWORD=s3cret", "DB_PASSWORD=****"),
        (("api", "auth", "metrics"), "token:s3cret", "token:****"),
        (("alerts", "webhook"), "htps://hooks.example/T1/abc def", "htps://hooks.example/****"),
        (("jobs", "a", "health_check", "url"), "http://me:pass@[::1", "http://me:****@[::1"),
        (("jobs", "a", "restart"), "alway", "alway"),
        (("jobs", "a", "schedule", 0), "60 * * * *", "60 * * * *"),
        (("jobs", "a", "nice"), 99, 99),
        (("api", "auth"), True, True),
        ((), "nonsense", "nonsense"),
        (("jobs", "a", "env"), "LANG=C TOKEN=s3cret", "LANG=C TOKEN=****"),
        (("jobs", "a", "env"), "LANG=C\nTOKEN: s3cret\nX=1", "LANG=C\nTOKEN: ****"),
    ],
)
def test_a_wrong_value_is_told_unless_it_may_be_a_secret(path: tuple[str | int, ...], value: Any, told: Any) -> None:
    assert masked_at(path, value) == told


def test_of_a_configuration_that_was_all_is_kept_but_secrets_save_what_runs_are_compared_by() -> None:
    params = {"api_key": {"default": "x"}}
    document = {
        "config": {"env": {"TOKEN": "t", "LANG": "C"}},
        "jobs": {"a": {"cmd": "curl http://me:pass@host", "env": {"PASSWORD": "p"}, "params": params}},
    }
    assert without_secrets(document) == {
        "config": {"env": {"TOKEN": "****", "LANG": "C"}},
        "jobs": {"a": {"cmd": "curl http://me:****@host", "env": {"PASSWORD": "****"}, "params": params}},
    }


@pytest.mark.parametrize("text", ["a" * 60_000, "a://" * 15_000, "a-" * 30_000, " " * 60_000, "a:" * 30_000])
def test_a_long_command_takes_no_longer_than_reading_it(text: str) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    masked({"cmd": text})
    masked_at(("jobs", "a", "cmd"), text)
    assert clock.monotonic() - began < 10
