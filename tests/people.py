"""People at a simulated home, who ask for things from processes of their own, whatever is going on there just then."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from procclaw.model.document import workflow_from_document
from procclaw.model.errors import Conflict
from procclaw.model.intents import NO_DETAILS, Details, Intent, IntentKind
from procclaw.model.records import HOME, WORKFLOWS
from procclaw.system.store import Store
from tests.declared import draw_workflow
from tests.lives import CANARY, SECOND, Violation
from tests.managers import hurry

if TYPE_CHECKING:
    from tests.scene import Scene

OF_THE_HOME = (IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK)
OF_A_JOB = (
    IntentKind.START,
    IntentKind.RUN,
    IntentKind.RUN,
    IntentKind.STOP,
    IntentKind.RESTART,
    IntentKind.PAUSE,
    IntentKind.RESUME,
    IntentKind.RESUME,
    IntentKind.REVOKE,
    IntentKind.UNREVOKE,
    IntentKind.CANCEL_ETA,
    IntentKind.TRIGGER,
    IntentKind.TRIGGER,
    IntentKind.REINJECT,
    IntentKind.PURGE,
)
OF_A_WORKFLOW = (
    IntentKind.WORKFLOW,
    IntentKind.WORKFLOW,
    IntentKind.CANCEL_WORKFLOW,
    IntentKind.RETRY_WORKFLOW,
    IntentKind.RETRY_WORKFLOW,
)
OF_A_PASS = (
    IntentKind.START,
    IntentKind.RUN,
    IntentKind.STOP,
    IntentKind.RESTART,
    IntentKind.REVOKE,
    IntentKind.TRIGGER,
    IntentKind.REINJECT,
)
_FORCEFUL = (IntentKind.STOP, IntentKind.RESTART, IntentKind.REVOKE, IntentKind.CANCEL_WORKFLOW)


class Key(NamedTuple):
    """An idempotency key, and the request that it stands for."""

    intent_id: int
    intent: Intent
    payload: bytes | None

    def is_same(self, intent: Intent, payload: bytes | None) -> bool:
        mine = (self.intent.job_id, self.intent.kind, self.intent.details, self.payload)
        return mine == (intent.job_id, intent.kind, intent.details, payload)

    def stands_at(self, now: datetime) -> bool:
        return self.intent.requested_at > now - timedelta(hours=24)


class People:
    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        self._store: Store | None = None
        self.keys: dict[str, Key] = {}
        """As the present database has them."""

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def ask_something(self) -> None:
        rng, scene = self._scene.rng, self._scene
        jobs = sorted({*scene.files.jobs, *scene.oracle.in_force})
        if rng.random() < 0.08:
            self.ask(rng.choice(OF_THE_HOME), HOME)
        elif rng.random() < 0.12:
            self.ask(rng.choice(OF_A_WORKFLOW), WORKFLOWS)
        elif jobs:
            self.ask(rng.choice(OF_A_JOB), rng.choice(jobs))

    def ask(self, kind: IntentKind, job_id: str) -> None:
        """What goes with the request is drawn by lot."""
        rng, now = self._scene.rng, self._scene.clock.now()
        force = kind in _FORCEFUL and rng.random() < 0.3
        details, payload = self._drawn_details(kind, job_id, now)
        key = f"key-{rng.randrange(2)}" if kind is IntentKind.TRIGGER and rng.random() < 0.7 else None
        self._request(Intent(0, job_id, kind, force, now, "simulated", key=key, details=details), payload)

    def ask_plainly(self, kind: IntentKind, job_id: str) -> None:
        """A request that nothing goes with."""
        self._request(Intent(0, job_id, kind, False, self._scene.clock.now(), "simulated"), None)

    def _request(self, intent: Intent, payload: bytes | None) -> None:
        scene, key = self._scene, intent.key
        earlier = self.keys.get(key) if key is not None else None
        if self._store is None:
            self._store = Store(scene.database)
            hurry(self._store)
        try:
            intent_id = self._store.add_intent(intent, payload)
        except Conflict as conflict:
            if earlier is None or earlier.is_same(intent, payload):
                raise Violation(1, f"the key {key} was refused: {conflict}") from conflict
            scene.trace.meet("key used for something else")
            return
        if earlier is not None and earlier.stands_at(intent.requested_at):
            if intent_id != earlier.intent_id:
                raise Violation(1, f"the key {key} stood for request {earlier.intent_id}, and now for {intent_id}")
            scene.trace.meet("key used again")
            return
        if key is not None:
            self.keys[key] = Key(intent_id, intent, payload)
        self._tell(intent._replace(id=intent_id), payload)

    def _tell(self, intent: Intent, payload: bytes | None) -> None:
        scene, details = self._scene, intent.details
        scene.oracle.on_request(intent, payload)
        scene.wake()
        scene.trace.met[f"asked {intent.kind}"] += 1
        told = f"{' --force' if intent.force else ''}{f' at {details.at:%H:%M:%S}' if details.at else ''}"
        told += f"{f' until {details.until:%H:%M:%S}' if details.until else ''}"
        scene.trace.say(f"request {intent.id}: {intent.kind} {intent.job_id}{told}")

    def ask_again(self) -> None:
        """Somebody who has had no answer asks once more, under the same key, and gets no second run."""
        jobs = sorted(self._scene.oracle.in_force)
        if jobs:
            job_id = self._scene.rng.choice(jobs)
            for _ in range(3):
                self.ask(IntentKind.TRIGGER, job_id)
                self._scene.live(self._scene.rng.randrange(SECOND))

    def _drawn_details(self, kind: IntentKind, job_id: str, now: datetime) -> tuple[Details, bytes | None]:
        rng, look, job = self._scene.rng, self._scene.look, self._scene.oracle.in_force.get(job_id, {})
        params = (("WHO", rng.choice(("you", "them"))),) if job.get("params") and rng.random() < 0.5 else ()
        match kind:
            case IntentKind.RUN:
                is_planned = job.get("type") != "continuous" and rng.random() < 0.4
                ahead = timedelta(seconds=rng.choice((-5, 2, 30, 200, 4000)))
                return Details(params, at=now + ahead if is_planned else None), None
            case IntentKind.START | IntentKind.RESTART:
                return Details(params), None
            case IntentKind.TRIGGER:
                payload = f'{{"who": "{CANARY}"}}'.encode() if rng.random() < 0.6 else None
                return Details(params, has_payload=payload is not None), payload
            case IntentKind.REVOKE:
                until = rng.choice((None, now + timedelta(seconds=rng.choice((1, 20, 300)))))
                return Details(until=until), None
            case IntentKind.REINJECT | IntentKind.PURGE:
                letters = [each for (each,) in look(f"SELECT id FROM dead_letters WHERE job_id = '{job_id}'")]
                count = 1 if kind is IntentKind.REINJECT else rng.randrange(3)
                chosen = rng.sample(letters, min(count, len(letters))) or [rng.randrange(1, 50)]
                return Details(dead_letters=tuple(chosen)), None
            case IntentKind.WORKFLOW:
                declared = self._scene.files.more.get("workflows", {})
                name = rng.choice(("", *declared))
                document = declared[name] if name else draw_workflow(rng, self._scene.files.jobs)
                return Details(workflow=workflow_from_document(document), workflow_name=name), None
            case IntentKind.CANCEL_WORKFLOW | IntentKind.RETRY_WORKFLOW:
                runs = [each for (each,) in look("SELECT id FROM workflow_runs ORDER BY rowid DESC LIMIT 3")]
                return Details(workflow_run=rng.choice(runs or ["unknown"])), None
            case _:
                return NO_DETAILS, None
