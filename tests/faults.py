"""What goes wrong in a simulated home: what happens by lot, and how each kind of fault is brought about on purpose.

`FAULTS` names every fault and every place where one can strike: each effect before or after which a manager can be
killed, each where the disk can be full or the database locked. A history that wants one brings it about again and
again until the machine or the oracle has noted it under that name, so it either happens or shows as never reached.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from procclaw.model.alerts import AlertKind
from procclaw.model.intents import IntentKind
from procclaw.model.records import HOME, WORKFLOWS
from tests.declared import SPOOL, TEMPLATES, a_job, draw_job, favouring
from tests.fates import FATES
from tests.lives import BEGIN, DAY, SECOND, Violation
from tests.managers import Manager
from tests.timetables import FIRST_OF_TWO, SECOND_OF_TWO, SPRING, stretches

if TYPE_CHECKING:
    from tests.scene import Scene

Act = Callable[["Scene"], None]

COMMITS = ("commit", "save_spec", "set_meta", "purge", "thin")
DISKS = (*COMMITS, "create_record", "note_commit", "hand_over", "make_work")
POINTS = (
    *(f"{when} {what}" for what in COMMITS for when in ("before", "after")),
    *(f"{when} {what}" for what in ("create_record", "launch", "signal") for when in ("before", "after")),
    *(f"{when} {what}" for what in ("remove_record", "note_commit", "hand_over") for when in ("before", "after")),
    "before delete_file",
    "after delete_file",
    "before make_work",
    "before remove_work",
    "before check",
    "before notice",
)
"""Wherever a manager can be killed: around whatever outlives it. Where nothing does, before and after are one."""

_ZONE = "Europe/Berlin"


# --- what may happen at any time ---


def request(scene: "Scene") -> None:
    scene.people.ask_something()


def preview(scene: "Scene") -> None:
    """Somebody asks what would be done, from a process of their own and without the lock."""
    before = _recorded(scene)
    manager = Manager(scene, "preview")
    manager.controller.preview()
    manager.close()
    scene.trace.meet("preview")
    if before != _recorded(scene):
        raise Violation(10, "a preview changed something")


def _recorded(scene: "Scene") -> tuple[object, ...]:
    return scene.look("SELECT * FROM runs"), scene.look("SELECT * FROM attempts"), scene.machine.records()


def ask_under_way(scene: "Scene") -> None:
    """A command line writes its request into the database while a cycle is under way."""
    scene.trace.meet("asked while a cycle is under way")
    scene.people.ask_something()


def edit_under_way(scene: "Scene") -> None:
    scene.trace.meet("jobs.yaml edited while a cycle is under way")
    scene.edit()


def _jump(scene: "Scene", span: int) -> None:
    scene.trace.meet("clock " + ("forward" if span > 0 else "back"), f"{span / SECOND:.0f} s")
    scene.clock.jump(span)
    scene.files.has_jumped = True
    if scene.daemon is not None:
        # The loop compares wall clock and timer after each sleep.
        scene.daemon.look_at_all()


def jump_forward(scene: "Scene") -> None:
    _jump(scene, scene.rng.choice((1, 30, 3700, 7200, 90_000, 260_000)) * SECOND)


def jump_back(scene: "Scene") -> None:
    _jump(scene, -scene.rng.choice((1, 30, 3700, 7200, 90_000)) * SECOND)


def leap(scene: "Scene") -> None:
    scene.trace.meet("leap")
    _jump(scene, 500 * DAY)


def suspend(scene: "Scene") -> None:
    scene.trace.meet("suspend")
    _jump(scene, scene.rng.choice((20, 600, 30_000)) * SECOND)


def reboot(scene: "Scene") -> None:
    scene.end_daemon()
    scene.machine.reboot()


def fill_disk(scene: "Scene", place: str = "") -> None:
    """`place`: the only one that finds it full."""
    place = place or scene.rng.choice(("anywhere", "anywhere", "create_record", "hand_over", "make_work"))
    with_records = place in ("create_record", "note_commit") or (place == "anywhere" and scene.rng.random() < 0.5)
    scene.machine.is_disk_full = with_records
    scene.full_at = place
    scene.outside.is_lock_disk_full, scene.outside.is_work_disk_full = place == "hand_over", place == "make_work"
    _serve(scene, place, 20 * SECOND)
    scene.machine.is_disk_full = scene.outside.is_lock_disk_full = scene.outside.is_work_disk_full = False
    scene.full_at = ""
    scene.trace.say("the disk has room again")


def lock_database(scene: "Scene", place: str = "anywhere") -> None:
    scene.locked_at = place
    _serve(scene, place, 12 * SECOND)
    scene.locked_at = ""


def _serve(scene: "Scene", place: str, longest: int) -> None:
    """Lead a manager to the place if that is the aim, else let happen what will."""
    if scene.wanted.endswith(f": {place}"):
        _lead(scene, place)
    else:
        scene.people.ask_something()
        scene.live(scene.rng.randrange(longest))


def lack_processes(scene: "Scene") -> None:
    scene.machine.lacks_processes = True
    scene.people.ask_something()
    scene.live(scene.rng.randrange(12 * SECOND))
    scene.machine.lacks_processes = False


def refuse(scene: "Scene", how: str) -> None:
    scene.machine.refuses_next = how


def invite_strangers(scene: "Scene") -> None:
    """Strangers get the numbers of shims, at best while something else of the attempt still lives."""
    scene.machine.spawn_stranger()
    scene.machine.hungry_strangers += 3
    scene.fates += [FATES["leaves a daemon behind"]] * 3
    scene.people.ask_something()


def delete_record(scene: "Scene") -> None:
    scene.machine.delete_a_record({mark for (mark,) in scene.look("SELECT mark FROM attempts")})


def drop_file(scene: "Scene") -> None:
    """A file appears where a job may be waiting for it, or is replaced."""
    jobs = scene.files.jobs
    watched = [name for name, job in jobs.items() if any(_watches(trigger) for trigger in job["trigger"])]
    job_id = scene.rng.choice(sorted(watched or TEMPLATES))
    span = scene.rng.choice((0, 0, SECOND, 6 * SECOND))
    scene.outside.drop(f"{SPOOL}/{job_id}/{scene.rng.randrange(3)}.{scene.rng.choice(('csv', 'csv', 'txt'))}", span)


def _watches(trigger: dict[str, object]) -> bool:
    return bool(trigger["enabled"]) and trigger["type"] == "file"


def hide_files(scene: "Scene") -> None:
    scene.outside.unreadable_until = scene.clock.elapsed + scene.rng.randrange(20 * SECOND)
    drop_file(scene)


def take_lock_elsewhere(scene: "Scene") -> None:
    locks = scene.oracle.truth.shared_locks()
    if locks:
        scene.outside.take_elsewhere(scene.rng.choice(locks), scene.rng.randrange(60 * SECOND))


def edit(scene: "Scene") -> None:
    scene.trace.meet("jobs.yaml edited")
    scene.edit()


def remove_job(scene: "Scene") -> None:
    jobs = dict(scene.files.jobs)
    if jobs:
        scene.trace.meet("job removed")
        del jobs[scene.rng.choice(sorted(jobs))]
        scene.files.write(jobs)


def truncate(scene: "Scene") -> None:
    """An editor that truncates the file before it writes it, slowly."""
    whole = dict(scene.files.jobs)
    jobs = dict(whole)
    for name in sorted(jobs)[scene.rng.randrange(len(jobs) + 1) :]:
        del jobs[name]
    scene.trace.meet("jobs.yaml truncated")
    scene.files.write(jobs, is_broken=scene.rng.random() < 0.3)
    scene.live(scene.rng.randrange(4 * SECOND))
    scene.files.write(whole)


def break_file(scene: "Scene") -> None:
    scene.trace.meet("jobs.yaml broken")
    scene.files.write(scene.files.jobs, is_broken=True)


def arm(scene: "Scene", point: str) -> None:
    if scene.crash is None or scene.crash[0] == "":
        scene.crash = (point, scene.rng.randrange(1, 4))


def destine(scene: "Scene", fate: str) -> None:
    scene.fates += [FATES[fate]] * 2


def workflow(scene: "Scene") -> None:
    scene.people.ask(IntentKind.WORKFLOW, WORKFLOWS)


MISHAPS: tuple[Act, ...] = (
    request,
    preview,
    jump_forward,
    jump_back,
    leap,
    suspend,
    reboot,
    fill_disk,
    lambda scene: scene.people.ask_again(),
    lack_processes,
    lock_database,
    partial(refuse, how="theirs"),
    partial(refuse, how="undecided"),
    lambda scene: scene.back_up(),
    lambda scene: scene.lose_database(),
    edit,
    remove_job,
    truncate,
    break_file,
    delete_record,
    lambda scene: scene.machine.tear_a_record(),
    invite_strangers,
    lambda scene: scene.machine.kill_a_shim(),
    lambda scene: scene.machine.kill_a_main(),
    drop_file,
    lambda scene: scene.outside.clear_away(),
    hide_files,
    take_lock_elsewhere,
    workflow,
    *(partial(destine, fate=fate) for fate in FATES),
    *(partial(arm, point=point) for point in POINTS),
)
"""What happens by lot."""


# --- bringing about what is wanted ---


def prepare(scene: "Scene", name: str = "hand", what: str = "") -> None:
    """Declare a job that can start: drawn by lot at first, and when that has not helped one that nothing keeps."""
    jobs, more = scene.files.jobs, None
    if scene.tries > 2:
        job, more = a_job(type=TEMPLATES[name]["type"]), {"max_parallel": None}
        jobs = {other: {**each, "depends_on": []} for other, each in jobs.items()}
    else:
        job = jobs.get(name) or draw_job(name, scene.rng, scene.clock.now())
    scene.declare({**jobs, name: favouring({**job, "enabled": True}, name, what)}, more)
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
    for _ in range(40):
        scene.live(20 * SECOND)
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
    scene.live(SECOND)
    scene.back_up()


def lose_a_record(scene: "Scene", *, of_living: bool) -> None:
    run(scene, fate="lasts" if of_living else "is done at once", seconds=1)
    if not of_living:
        # Only while nobody looks does the record of something that has ended lie about.
        run(scene, fate="leaves children behind", seconds=1)
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
        _jump(scene, ahead - 2 * DAY)
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
    **{f"disk full: {place}": partial(fill_disk, place=place) for place in DISKS},
    **{f"database locked: {place}": partial(lock_database, place=place) for place in COMMITS},
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
    "jobs.yaml edited": edit,
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

_NAMES = tuple(FAULTS)


def wanted_by(seed: int) -> str:
    """The fault that the history of a seed brings about."""
    return _NAMES[seed % len(_NAMES)]


def seeds_that_want(fault: str, count: int) -> range:
    first = _NAMES.index(fault)
    return range(first, first + count * len(_NAMES), len(_NAMES))
