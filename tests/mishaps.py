"""What happens in a simulated home at any time, by lot: people do something, something goes wrong, a fate is sealed.

Each is small and done at once, or after a little while. What is wanted on purpose is brought about by `faults`.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from procclaw.model.intents import IntentKind
from procclaw.model.records import WORKFLOWS
from tests.declared import SPOOL, TEMPLATES
from tests.fates import FATES
from tests.lives import DAY, SECOND, Violation
from tests.managers import Manager

if TYPE_CHECKING:
    from tests.scene import Scene

Act = Callable[["Scene"], None]

COMMITS = ("commit", "save_spec", "set_meta", "purge", "thin")
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


def jump(scene: "Scene", span: int) -> None:
    scene.trace.meet("clock " + ("forward" if span > 0 else "back"), f"{span / SECOND:.0f} s")
    scene.clock.jump(span)
    scene.files.has_jumped = True
    if scene.daemon is not None:
        # The loop compares wall clock and timer after each sleep.
        scene.daemon.look_at_all()


def jump_forward(scene: "Scene") -> None:
    jump(scene, scene.rng.choice((1, 30, 3700, 7200, 90_000, 260_000)) * SECOND)


def jump_back(scene: "Scene") -> None:
    jump(scene, -scene.rng.choice((1, 30, 3700, 7200, 90_000)) * SECOND)


def leap(scene: "Scene") -> None:
    scene.trace.meet("leap")
    jump(scene, 500 * DAY)


def suspend(scene: "Scene") -> None:
    scene.trace.meet("suspend")
    jump(scene, scene.rng.choice((20, 600, 30_000)) * SECOND)


def reboot(scene: "Scene") -> None:
    scene.end_daemon()
    scene.machine.reboot()


def fill_disk(scene: "Scene", place: str = "", meanwhile: Act | None = None) -> None:
    """`place`: the only one that finds it full; `meanwhile`: what leads there."""
    place = place or scene.rng.choice(("anywhere", "anywhere", "create_record", "hand_over", "make_work"))
    with_records = place in ("create_record", "note_commit") or (place == "anywhere" and scene.rng.random() < 0.5)
    scene.machine.is_disk_full = with_records
    scene.full_at = place
    scene.outside.is_lock_disk_full, scene.outside.is_work_disk_full = place == "hand_over", place == "make_work"
    (meanwhile or partial(_busy, seconds=20))(scene)
    scene.machine.is_disk_full = scene.outside.is_lock_disk_full = scene.outside.is_work_disk_full = False
    scene.full_at = ""
    scene.trace.say("the disk has room again")


def lock_database(scene: "Scene", place: str = "anywhere", meanwhile: Act | None = None) -> None:
    scene.locked_at = place
    (meanwhile or partial(_busy, seconds=12))(scene)
    scene.locked_at = ""


def _busy(scene: "Scene", seconds: int) -> None:
    """Something is asked for, and there is time to act on it."""
    scene.people.ask_something()
    scene.live(scene.rng.randrange(seconds * SECOND))


def lack_processes(scene: "Scene") -> None:
    scene.machine.lacks_processes = True
    _busy(scene, 12)
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
