"""Webhooks: who may trigger a job from outside, and with what.

A trigger with a token or a key of its own is judged by that alone, whatever else guards the API; a request that
satisfies one of a job's triggers is admitted. Comparisons take the same time however much of a guess is right.
"""

import hashlib
import hmac
from collections.abc import Callable
from enum import StrEnum

from procclaw.engine.tokens import Unavailable
from procclaw.model.errors import NotFound
from procclaw.model.secret import Text, revealed
from procclaw.model.spec import JobSpec, TriggerSpec, TriggerType

_ALGORITHM = "sha256="

ValueOf = Callable[[str], Text]
"""What a token or key as it is written stands for."""


class Verdict(StrEnum):
    ADMITTED = "admitted"
    DENIED = "denied"
    UNGUARDED = "unguarded"
    """The job's triggers have neither token nor key: whoever may use the API may trigger it."""


def judged(spec: JobSpec, body: bytes, bearer: str | None, signature: str | None, value_of: ValueOf) -> Verdict:
    """Whether a request may trigger the job; `signature` is that of X-Hub-Signature-256.

    Raises NotFound for a job that no webhook triggers, and Unavailable where what it is guarded by cannot be had.
    """
    guarded = _guarded(webhooks_of(spec))
    if not guarded:
        return Verdict.UNGUARDED
    # All of them, so that the time taken tells nothing.
    verdicts: list[bool] = []
    lacking: list[Unavailable] = []
    for trigger in guarded:
        try:
            verdicts.append(_satisfies(trigger, body, bearer, signature, value_of))
        except Unavailable as error:
            lacking.append(error)
    if any(verdicts):
        return Verdict.ADMITTED
    if lacking:
        raise lacking[0]
    return Verdict.DENIED


def webhooks_of(spec: JobSpec) -> list[TriggerSpec]:
    """Raises NotFound for a job that no webhook triggers."""
    triggers = [trigger for trigger in spec.triggers if trigger.type is TriggerType.WEBHOOK]
    if not triggers:
        raise NotFound(f'no webhook triggers "{spec.id}"')
    return triggers


def is_guarded(spec: JobSpec) -> bool:
    """Whether its webhooks have a token or a key of their own."""
    return bool(_guarded([trigger for trigger in spec.triggers if trigger.type is TriggerType.WEBHOOK]))


def _guarded(triggers: list[TriggerSpec]) -> list[TriggerSpec]:
    return [trigger for trigger in triggers if trigger.auth_token is not None or trigger.hmac_secret is not None]


def _satisfies(trigger: TriggerSpec, body: bytes, bearer: str | None, signature: str | None, value_of: ValueOf) -> bool:
    """Bearer token or signature; where a trigger has both, either will do."""
    token, key = (None if each is None else value_of(each) for each in (trigger.auth_token, trigger.hmac_secret))
    has_token = _is_same(bearer, token)
    return _is_signed(body, signature, key) or has_token


def _is_same(given: str | None, wanted: Text | None) -> bool:
    if given is None or wanted is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), revealed(wanted).encode())


def _is_signed(body: bytes, signature: str | None, key: Text | None) -> bool:
    if signature is None or key is None:
        return False
    wanted = _ALGORITHM + hmac.new(revealed(key).encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signature.strip().lower().encode("utf-8", "surrogateescape"), wanted.encode())
