"""Every fault that a simulated home can meet, and how each is brought about on purpose.

`FAULTS` names every fault and every place where one can strike: each effect before or after which a manager can be
killed, each where the disk can be full or the database locked. A history that wants one brings it about again and
again until the machine or the oracle has noted it under that name, so it either happens or shows as never reached.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from procclaw.model.alerts import AlertKind
from procclaw.model.intents import IntentKind
from procclaw.model.records import HOME, WORKFLOWS
from tests.declared import SPOOL, TEMPLATES, a_job, draw_job, favouring
from tests.fates import FATES
from tests.lives import BEGIN, DAY, SECOND
from tests.mishaps import (
    COMMITS,
    POINTS,
    Act,
    ask_under_way,
    break_file,
    delete_record,
    drop_file,
    edit,
    edit_under_way,
    fill_disk,
    hide_files,
    invite_strangers,
    jump,
    jump_back,
    jump_forward,
    leap,
    lock_database,
    preview,
    reboot,
    refuse,
    remove_job,
    suspend,
    take_lock_elsewhere,
    truncate,
    workflow,
)
from tests.timetables import FIRST_OF_TWO, SECOND_OF_TWO, SPRING, stretches

if TYPE_CHECKING:
    from tests.scene import Scene

DISKS = (*COMMITS, "create_record", "note_commit", "hand_over", "make_work")
_ZONE = "Europe/Berlin"


def prepare(scene: "Scene", name: str = "hand", what: str = "") -> None:
    """Declare a job that can start: drawn by lot at first, and when that has not helped one that nothing keeps."""
    jobs, more = scene.files.jobs, None
    if scene.tries > 2:
        job, more = a_job(type=TEMPLATES[name]["type"]), {"max_parallel": None}
        jobs = {other: {**each, "depends_on": []} for other, each in jobs.items()}
    else:
        job = jobs.get(name) or draw_job(name, scene.rng, scene.clock.now())
    scene.files.write({**jobs, name: favouring({**job, "enabled": True}, name, what)}, more=more)
    scene.people.ask_plainly(IntentKind.RELEASE_HOME, HOME)
    for kind in (IntentKind.RESUME, IntentKind.UNREVOKE):
        scene.people.ask_plainly(kind, name)


def run(scene: "Scene", what: str = "", fate: str = "is done at once", name: str = "hand", seconds: int = 6) -> None:
    """Have such a job started, under a fate, and a daemon live for so long."""
    prepare(scene, name, what)
    scene.live(SECOND)
    scene.fates += [FATES[fate]] * 3
    scene.people.ask_plainly(IntentKind.START if name == "db" else IntentKind.RUN, name)
    scene.live(seconds * SECOND)


def stop(scene: "Scene", fate: str) -> None:
    """Have a job end that would rather not."""
    run(scene, fate=fate, seconds=1)
    scene.people.ask_plainly(IntentKind.STOP, "hand")
    scene.live(30 * SECOND)


def loop(scene: "Scene") -> None:
    """A service fails at once, and is started again so often that its first attempts are forgotten."""
    prepare(scene, "db", "crash loop")
    scene.fates = [FATES["fails at once"]] * 250
    scene.people.ask_plainly(IntentKind.RESTART, "db")
    for turn in range(40):
        scene.live(20 * SECOND)
        if turn % 5 == 4:
            look_anew(scene)
        if scene.trace.met[scene.wanted]:
            break
    scene.fates.clear()


def trigger(scene: "Scene") -> None:
    """A file triggers a job, which ends well, so that the file is deleted."""
    prepare(scene, "hand", "files")
    scene.fates += [FATES["is done at once"]] * 3
    scene.outside.unreadable_until = 0
    scene.outside.drop(f"{SPOOL}/hand/{scene.rng.randrange(3)}.csv", 0)
    scene.live(12 * SECOND)


def look_anew(scene: "Scene") -> None:
    """A daemon begins, goes through everything and tidies up."""
    scene.end_daemon()
    scene.live(2 * SECOND)


def _lead(scene: "Scene", place: str) -> None:
    """Lead a manager to the effect of that name."""
    match place:
        case "save_spec" | "set_meta":
            edit(scene)
            scene.live(3 * SECOND)
        case "purge":
            look_anew(scene)
        case "thin":
            loop(scene)
        case "signal":
            stop(scene, "ignores signals")
        case "hand_over":
            scene.outside.elsewhere.clear()
            run(scene, "lock")
        case "delete_file":
            trigger(scene)
        case "remove_work":
            run(scene)
            look_anew(scene)
        case "check":
            run(scene, "health", fate="lasts", name="db", seconds=20)
        case "notice":
            run(scene, "failures", fate="fails at once")
        case _:
            run(scene)


def crash(scene: "Scene", point: str) -> None:
    scene.crash = (point, 1 if scene.tries > 2 else scene.rng.randrange(1, 4))
    _lead(scene, point.partition(" ")[2])


def edit_words(scene: "Scene") -> None:
    """Somebody edits what concerns no process, while one runs."""
    run(scene, fate="lasts", name="db", seconds=2)
    scene.trace.meet("jobs.yaml edited")
    words = f"edited after {scene.clock.elapsed}"
    scene.declare({name: {**job, "description": words} for name, job in scene.files.jobs.items()})
    scene.live(3 * SECOND)


def ask_for(scene: "Scene", kind: IntentKind) -> None:
    if kind in (IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK):
        scene.people.ask(kind, HOME)
    elif kind in (IntentKind.WORKFLOW, IntentKind.CANCEL_WORKFLOW, IntentKind.RETRY_WORKFLOW):
        scene.people.ask(kind, WORKFLOWS)
    else:
        scene.people.ask(kind, scene.rng.choice(sorted(scene.files.jobs) or ["hand"]))


def interrupt(scene: "Scene", act: Act) -> None:
    """It happens as soon as a cycle is under way."""
    scene.inside = partial(act, scene)
    run(scene)


def fail(scene: "Scene") -> None:
    run(scene, "failures", fate="fails at once", seconds=30)


def fail_in_vain(scene: "Scene") -> None:
    """Whoever should be told is out of reach."""
    scene.outside.is_receiver_out = True
    fail(scene)
    scene.outside.is_receiver_out = False


def recover(scene: "Scene") -> None:
    fail(scene)
    run(scene, "failures", seconds=10)


def send_and_die(scene: "Scene") -> None:
    run(scene, "failures", fate="fails at once", seconds=3)
    scene.end_daemon()
    scene.machine.advance(15 * SECOND)


def miss(scene: "Scene") -> None:
    prepare(scene, "tick", "slots")
    scene.live(5 * SECOND)
    scene.end_daemon()
    scene.machine.advance(400 * SECOND)
    scene.live(5 * SECOND)


def swap_database(scene: "Scene") -> None:
    """Somebody copies the database, and puts the copy back after slots have run of which it knows nothing."""
    prepare(scene, "tick", "catch up")
    for _ in range(2):
        scene.live(200 * SECOND)
        scene.back_up()


def lose_a_record(scene: "Scene", *, of_living: bool) -> None:
    run(scene, fate="lasts" if of_living else "leaves children behind", seconds=1)
    if not of_living:
        # Only while nobody looks does the record of something that has ended lie about.
        scene.end_daemon()
        scene.machine.advance(3 * SECOND)
    delete_record(scene)


def lose_power(scene: "Scene") -> None:
    run(scene, fate="lasts", seconds=1)
    reboot(scene)


def strike(scene: "Scene", act: Act) -> None:
    """It strikes an attempt that lives."""
    run(scene, fate="lasts", seconds=1)
    act(scene)
    scene.live(5 * SECOND)


def refuse_next(scene: "Scene", how: str) -> None:
    refuse(scene, how)
    run(scene)


def refuse_all(scene: "Scene") -> None:
    scene.machine.lacks_processes = True
    run(scene)
    scene.machine.lacks_processes = False


def hide(scene: "Scene") -> None:
    prepare(scene, "hand", "files")
    hide_files(scene)
    scene.live(10 * SECOND)


def replace_file(scene: "Scene") -> None:
    for _ in range(2):
        scene.outside.drop(f"{SPOOL}/hand/0.txt", 0)


def write_slowly(scene: "Scene") -> None:
    prepare(scene, "hand", "files")
    scene.outside.drop(f"{SPOOL}/hand/{scene.rng.randrange(3)}.csv", 6 * SECOND)
    scene.live(8 * SECOND)


def clear_away(scene: "Scene") -> None:
    drop_file(scene)
    scene.outside.clear_away()


def contend(scene: "Scene") -> None:
    prepare(scene, "hand", "lock")
    scene.live(2 * SECOND)
    take_lock_elsewhere(scene)
    scene.people.ask_plainly(IntentKind.RUN, "hand")
    scene.live(6 * SECOND)


def reuse_pids(scene: "Scene") -> None:
    invite_strangers(scene)
    run(scene, fate="leaves a daemon behind", seconds=10)


def revoke_for_a_while(scene: "Scene") -> None:
    for _ in range(3):
        prepare(scene)
        scene.people.ask(IntentKind.REVOKE, "hand")
        scene.live(25 * SECOND)


def flow(scene: "Scene") -> None:
    prepare(scene)
    scene.fates += [FATES["is done at once"]] * 4
    workflow(scene)
    scene.live(10 * SECOND)


def depend(scene: "Scene", condition: str) -> None:
    needed = "chore" if condition == "after_complete" else "db"
    run(scene, name=needed, fate="is done at once" if needed == "chore" else "lasts", seconds=3)
    run(scene, condition, seconds=20)


def take_turns(scene: "Scene") -> None:
    """A pass from cron finds a daemon at work, which then goes on."""
    run(scene, seconds=1)
    scene.reconcile()
    scene.live(5 * SECOND)


def pass_by(scene: "Scene", act: Act) -> None:
    prepare(scene)
    scene.live(SECOND)
    act(scene)


def live_over_a_change(scene: "Scene", what: str) -> None:
    """Live over a weekend on which the clocks change, waiting for it first if it is far."""
    at = _next_change(scene.clock.now(), 1 if scene.wanted == SPRING else -1)
    ahead = (at - scene.clock.now()) // timedelta(microseconds=1)
    if ahead > 9 * DAY:
        jump(scene, ahead - 2 * DAY)
        ahead = 2 * DAY
    prepare(scene, "report", what)
    scene.live(ahead + DAY // 4)
    scene.live(DAY)


def _next_change(now: datetime, sign: int) -> datetime:
    """When clocks are next set forward (1) or back (-1)."""
    return next(
        at
        for stretch in stretches(_ZONE)
        if stretch.moved * sign > 0 and (at := datetime.fromtimestamp(stretch.begin, UTC)) > now
    )


def before_a_change(scene: "Scene") -> int:
    """How far from the usual begin a history of weeks begins, some days before one of the year's changes."""
    sign = -1 if scene.wanted in (FIRST_OF_TWO, SECOND_OF_TWO) else 1 if scene.wanted == SPRING else 0
    at = _next_change(BEGIN, sign or scene.rng.choice((1, -1)))
    return (at - BEGIN) // timedelta(microseconds=1) - scene.rng.randrange(2 * DAY, 9 * DAY)


LASTS_WEEKS = {
    SPRING: partial(live_over_a_change, what="fixed"),
    FIRST_OF_TWO: partial(live_over_a_change, what="fixed"),
    SECOND_OF_TWO: partial(live_over_a_change, what="following"),
}

FAULTS: dict[str, Act] = {
    **{f"crash {point}": partial(crash, point=point) for point in POINTS},
    **{
        f"disk full: {place}": partial(fill_disk, place=place, meanwhile=partial(_lead, place=place)) for place in DISKS
    },
    **{
        f"database locked: {place}": partial(lock_database, place=place, meanwhile=partial(_lead, place=place))
        for place in COMMITS
    },
    **{f"asked {kind}": partial(ask_for, kind=kind) for kind in IntentKind},
    **LASTS_WEEKS,
    f"alert: {AlertKind.FAILURE}": fail,
    f"alert: {AlertKind.FAILED}": fail,
    f"alert: {AlertKind.UNHEALTHY}": partial(run, what="health", fate="is never well", name="db", seconds=60),
    f"alert: {AlertKind.LIMIT}": partial(run, what="limit", fate="lasts", name="db", seconds=60),
    f"alert: {AlertKind.MISSED}": miss,
    f"alert: {AlertKind.OVERDUE}": partial(run, what="expect", fate="fails at once", seconds=60),
    f"alert: {AlertKind.RECOVERED}": recover,
    "alert arrived": fail,
    "alert did not arrive": fail_in_vain,
    "alert sent, and its manager died": send_and_die,
    "asked while a cycle is under way": partial(interrupt, act=ask_under_way),
    "backup": swap_database,
    "check without an answer": partial(run, what="health", fate="lasts", name="db", seconds=60),
    "child in a session of its own": partial(run, fate="leaves a daemon behind", seconds=5),
    "clock back": jump_back,
    "clock forward": jump_forward,
    "daemon ended": look_anew,
    "database moved away": lambda scene: scene.lose_database(),
    "database restored": swap_database,
    "died before its pid was written": partial(run, fate="dies before its pid is written", seconds=5),
    "directory is missing": partial(run, fate="directory is missing", seconds=5),
    "directory not to be read": hide,
    "file deleted": clear_away,
    "file dropped": drop_file,
    "file not settled": write_slowly,
    "file replaced": replace_file,
    "job removed": remove_job,
    "jobs.yaml broken": break_file,
    "jobs.yaml edited": edit_words,
    "jobs.yaml edited while a cycle is under way": partial(interrupt, act=edit_under_way),
    "jobs.yaml truncated": truncate,
    "key used again": lambda scene: scene.people.ask_again(),
    "key used for something else": lambda scene: scene.people.ask_again(),
    "killed by somebody else": partial(strike, act=lambda scene: scene.machine.kill_a_main()),
    "launch refused: ours": refuse_all,
    "launch refused: theirs": partial(refuse_next, how="theirs"),
    "launch undecided": partial(refuse_next, how="undecided"),
    "leap": leap,
    "left something behind": partial(run, fate="leaves children behind", seconds=5),
    "lock not free": contend,
    "lock taken by another home": contend,
    "pass from cron": partial(pass_by, act=lambda scene: scene.reconcile()),
    "pass of a request": partial(pass_by, act=lambda scene: scene.pass_of_a_request()),
    "pid reused by a stranger": reuse_pids,
    "preview": preview,
    "reboot": reboot,
    "record deleted: not in use": partial(lose_a_record, of_living=False),
    "record deleted: of a living attempt": partial(lose_a_record, of_living=True),
    "record reverted by power failure": lose_power,
    "record torn": partial(strike, act=lambda scene: scene.machine.tear_a_record()),
    "record torn by power failure": lose_power,
    "revocation ran out": revoke_for_a_while,
    "shim killed": partial(strike, act=lambda scene: scene.machine.kill_a_shim()),
    "signal ignored": partial(stop, fate="ignores signals"),
    "slow to end": partial(stop, fate="is slow to end"),
    "step of a chain": flow,
    "step of a chord": flow,
    "step of a group": flow,
    "still draining": partial(run, fate="drains", seconds=5),
    "stuck in the kernel": partial(stop, fate="is stuck in the kernel"),
    "suspend": suspend,
    "told to end: timed_out": partial(run, what="time limit", fate="lasts", seconds=10),
    "trigger file deleted by us": trigger,
    "two managers in turn": take_turns,
    "waited for: after_complete": partial(depend, condition="after_complete"),
    "waited for: after_healthy": partial(depend, condition="after_healthy"),
    "waited for: after_start": partial(depend, condition="after_start"),
}
"""By its name in the trace, how it is brought about: everything that must have happened somewhere."""

RESTLESS = frozenset(fault for fault in FAULTS if fault.endswith("thin"))
"""What takes a hundred failures in a row; a history of weeks has no time for them."""

_NAMES = tuple(FAULTS)


def wanted_by(seed: int) -> str:
    """The fault that the history of a seed brings about."""
    return _NAMES[seed % len(_NAMES)]


def seeds_that_want(fault: str, count: int) -> range:
    first = _NAMES.index(fault)
    return range(first, first + count * len(_NAMES), len(_NAMES))
