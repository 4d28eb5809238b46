"""What becomes of the processes of a simulated machine: scripts drawn by lot, and a few that are sought on purpose."""

from random import Random

from tests.lives import SECOND, Child, Script

_MILLISECOND = SECOND // 1000
_HOUR = 3600.0

FATES = {
    "dies before its pid is written": Script(fate="blank"),
    "directory is missing": Script(seconds=5.0, fate="no_cwd"),
    "shim is killed": Script(fate="shim_killed", shim_killed_after=2 * SECOND, on_term="ignores"),
    "ignores signals": Script(on_term="ignores", children=(Child(0, None, True, True, "ignores"),)),
    "is slow to end": Script(on_term="handles", term_delay=4 * SECOND),
    "is stuck in the kernel": Script(on_term="ignores", kill_delay=15 * SECOND),
    "leaves children behind": Script(seconds=1.0, children=(Child(0, None, False, False, "dies"),)),
    "drains": Script(seconds=1.0, drain=400 * _MILLISECOND),
    "is done at once": Script(seconds=0.0),
    "fails at once": Script(seconds=0.0, code=1),
    "leaves a daemon behind": Script(seconds=1.0, children=(Child(0, None, True, True, "ignores"),)),
    "lasts": Script(seconds=500.0),
    "is never well": Script(health="bad"),
}


def calm_script(rng: Random, *, is_continuous: bool) -> Script:
    """Nothing goes wrong with it."""
    return Script(None if is_continuous else rng.choice((0.0, 0.5, 20.0)), pid_delay=rng.randrange(5000))


def drawn_script(rng: Random, *, is_continuous: bool, is_unhurried: bool) -> Script:
    """Anything may go wrong; `is_unhurried`: in a history of weeks, in which nothing may happen by the second."""
    lasting: tuple[float | None, ...]
    if is_continuous:
        lasting = (None, None, None, 9 * _HOUR, 50 * _HOUR) if is_unhurried else (None, None, None, 0.0, 0.3, 8.0, 70.0)
    else:
        lasting = (0.0, 25.0, _HOUR, 9 * _HOUR) if is_unhurried else (0.0, 0.01, 0.2, 3.0, 25.0, 200.0, None)
    children = tuple(
        Child(
            after=rng.randrange(SECOND),
            seconds=rng.choice((None, 1.0, 40.0)),
            leaves_session=leaves,
            carries_mark=leaves or rng.random() < 0.6,
            on_term=rng.choice(("dies", "ignores")),
        )
        for leaves in rng.choices((False, True), k=rng.choice((0, 0, 0, 1, 2)))
    )
    return Script(
        seconds=rng.choice(lasting),
        code=rng.choice((0, 0, 0, 1, 3, 127, 143)),
        on_term=rng.choice(("dies", "dies", "ignores", "handles")),
        term_delay=rng.choice((0, 20 * _MILLISECOND, 3 * SECOND)),
        term_code=rng.choice((0, 5, 143)),
        kill_delay=rng.choice((0, 0, 0, 0, 15 * SECOND)),
        children=children,
        result=rng.choice((None, '{"n":1}', "rubbish")),
        health=rng.choice(("good", "good", "fickle", "bad")),
        fate=rng.choice(("runs",) * 14 + ("blank", "no_cwd", "shim_killed")),
        shim_killed_after=rng.randrange(20 * SECOND),
        pid_delay=rng.choice((0, 0, rng.randrange(4 * _MILLISECOND), 60 * _MILLISECOND)),
        drain=rng.choice((0, 0, 5 * _MILLISECOND, 400 * _MILLISECOND)),
    )
