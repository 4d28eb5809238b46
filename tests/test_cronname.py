"""What lines of crontabs are called."""

import pytest

from procclaw.interface.convert.cronname import name_for


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/scripts/dump.sh >/var/log/dump.log 2>&1", "dump"),
        ("cd /srv/app && php artisan schedule:run >> /dev/null 2>&1", "artisan"),
        ("cd /srv && python3 -u /opt/x.py", "x"),
        ("python3 -m reports.daily", "reports.daily"),
        ("[ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi",
         "sessionclean"),
        ("test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }", "run-parts"),
        ("test -x /usr/sbin/anacron || ( cd / && run-parts /etc/cron.daily )", "run-parts"),
        ("for m in a b; do ./send $m; done", "send"),
        ("while ! ./up; do sleep 1; done", "up"),
        ("su - me -c './weekly.sh &'", "weekly"),
        ("su root -s /bin/sh -c 'cd /x && /b/m.sh'", "m"),
        ("sudo -u root -H nice -n 19 /opt/backup", "backup"),
        ("/usr/bin/flock -w 5 -n /tmp/a.lock timeout -s KILL 10m ./sync", "sync"),
        ("flock -n /tmp/a.lock -c 'cd /x && ./sync'", "sync"),
        ('bash -lc "cd /srv/app && ./one & ./two & wait"', "one"),
        ("setsid /home/me/poll.sh & echo $! > /tmp/poll.pid", "poll"),
        ("ionice -c 3 -n 7 rsync -a a b", "rsync"),
        ("docker exec -u root web ./x", "web"),
        ("docker run --rm -v /a:/b img/backup", "backup"),
        ("MAIL=x env -u A FOO=bar certbot renew", "certbot"),
        ("a 'never closed", "a"),
        ("[ -e /x ]", "x"),
        ("python3", "python3"),
        ("\"$(date)\"", "job"),
        ("", "job"),
    ],
)  # fmt: skip
def test_a_line_is_called_after_what_it_is_there_for(command: str, name: str) -> None:
    assert name_for(command) == name
