"""Who may trigger a job from outside."""

import hashlib
import hmac

import pytest

from procclaw.engine.webhooks import Verdict, judged
from procclaw.model.errors import NotFound
from procclaw.model.spec import TriggerSpec, TriggerType
from tests.builders import a_job

BODY = b'{"ref": "main"}'
SIGNED = "sha256=" + hmac.new(b"key", BODY, hashlib.sha256).hexdigest()


def a_webhook(token: str | None = None, key: str | None = None) -> TriggerSpec:
    return TriggerSpec(TriggerType.WEBHOOK, token, key, None, "*", delete_after=False)


@pytest.mark.parametrize(
    ("token", "key", "bearer", "signature", "verdict"),
    [
        (None, None, None, None, Verdict.UNGUARDED),
        (None, None, "anything", None, Verdict.UNGUARDED),
        ("t", None, "t", None, Verdict.ADMITTED),
        ("t", None, "T", None, Verdict.DENIED),
        ("t", None, "", None, Verdict.DENIED),
        ("t", None, None, None, Verdict.DENIED),
        ("t", None, "tü\udcff", None, Verdict.DENIED),
        (None, "key", None, SIGNED, Verdict.ADMITTED),
        (None, "key", None, SIGNED.upper().replace("SHA", "sha"), Verdict.ADMITTED),
        (None, "key", None, SIGNED.removeprefix("sha256="), Verdict.DENIED),
        (None, "other", None, SIGNED, Verdict.DENIED),
        (None, "key", "key", None, Verdict.DENIED),
        ("t", "key", "t", None, Verdict.ADMITTED),
        ("t", "key", None, SIGNED, Verdict.ADMITTED),
        ("t", "key", "x", "sha256=00", Verdict.DENIED),
    ],
)
def test_a_trigger_is_judged_by_its_own_token_or_signature(
    token: str | None, key: str | None, bearer: str | None, signature: str | None, verdict: Verdict
) -> None:
    assert judged(a_job(triggers=(a_webhook(token, key),)), BODY, bearer, signature, str) is verdict


def test_a_signature_is_for_one_body() -> None:
    assert judged(a_job(triggers=(a_webhook(key="key"),)), BODY + b" ", None, SIGNED, str) is Verdict.DENIED


def test_one_of_several_triggers_is_enough_and_an_open_one_opens_nothing_that_is_guarded() -> None:
    job = a_job(triggers=(a_webhook("a"), a_webhook("b")))
    assert judged(job, BODY, "b", None, str) is Verdict.ADMITTED
    mixed = a_job(triggers=(a_webhook(), a_webhook("b")))
    assert judged(mixed, BODY, None, None, str) is Verdict.DENIED


def test_a_job_that_no_webhook_triggers_is_not_found() -> None:
    with pytest.raises(NotFound, match='no webhook triggers "job"'):
        judged(a_job(), BODY, "t", None, str)
