"""Which commands leave something running, and what becomes of it in a job that was imported."""

from pathlib import Path

import pytest

from procclaw.interface.convert.background import is_left_behind
from tests.commandline import CommandLine
from tests.driver import commands
from tests.support import Reaper, wait_until


@pytest.mark.parametrize(
    "command",
    [
        "nohup sleep 314 >/dev/null 2>&1 &",
        "/home/me/start-bot.sh&",
        "cd /srv && ./run & echo $! > run.pid",
        "(sleep 9 &)",
        "a & wait; b &",
        "su - me -c 'nohup ./bot &'",
        'bash -lc "cd /srv; ./bot &"',
        "setsid -f ./bot",
        "screen -dmS game java -jar game.jar",
        "/usr/bin/screen -S game -d -m ./run",
        "tmux new-session -d -s bot ./bot",
        "start-stop-daemon --start --background --exec /srv/bot",
        "./noisy &> /dev/null",
    ],
)
def test_what_goes_on_after_the_command_is_seen(command: str) -> None:
    assert is_left_behind(command)


@pytest.mark.parametrize(
    "command",
    [
        "a && b",
        "a >/dev/null 2>&1",
        "a |& b",
        "a <&3",
        "curl 'http://host/?a=1&b=2'",
        'curl "http://host/?a=1&b=2"',
        r"echo a \& b",
        "run # and & so on",
        "a & b & wait",
        "a & b & wait $!",
        "echo 'it & that",
        "setsid ./bot",
        "screen -ls",
        "",
    ],
)
def test_what_ends_with_the_command_is_not_taken_for_it(command: str) -> None:
    assert not is_left_behind(command)


def test_only_a_shell_like_dash_takes_a_redirection_of_both_for_an_ampersand() -> None:
    assert not is_left_behind("./noisy &> /dev/null", "/bin/bash")


@pytest.mark.real
def test_what_a_line_of_a_crontab_leaves_behind_goes_on(
    cli: CommandLine, home: Path, tmp_path: Path, reaper: Reaper
) -> None:
    reaper.watch_home(home)
    left = tmp_path / "left"
    file = tmp_path / "crontab.txt"
    file.write_text(f"@reboot nohup sleep 314 >/dev/null 2>&1 & echo $! > {left}\n")
    assert cli("import", str(file), "--write").code == 0

    def has_ended() -> bool:
        cli("reconcile")
        return bool(cli("list", "--json").json["jobs"][0]["last_exit_code"] == 0)

    wait_until(has_ended, within=30, show=lambda: cli("list").out)
    assert cli("reconcile").code == 0
    # What is left behind may still be on its way to what it becomes.
    wait_until(lambda: any(commands(seen.pid).startswith("sleep") for seen in reaper.members()), 10, reaper.members)
