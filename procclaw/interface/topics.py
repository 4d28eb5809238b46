"""What `procclaw help TOPIC` prints: one screen each, and nothing else. Another topic is another entry.

A test reads every YAML example (what is indented and begins with `jobs:` or with a name of procclaw.yaml) with the real
loader, and has every command among them understood. No topic bears the name of a command, whose help comes first.
"""

from typing import NamedTuple


class Topic(NamedTuple):
    summary: str
    text: str


TOPICS = {
    "jobs": Topic(
        "what a job is, and how one is declared",
        """\
Jobs stand in jobs.yaml, by their id. Save the file and it applies; a file with a mistake changes nothing.

    jobs:
      site:                        # stays up: comes back when it ends
        cmd: python3 -m http.server 8080
        cwd: /srv/site
        type: continuous
      report:                      # runs when it is due
        cmd: ./report.sh "$PROCCLAW_PARAM_day"
        type: scheduled
        schedule: "30 6 * * 1-5"
        params:
          day: {default: yesterday}
      cleanup:                     # runs when asked: the type is manual unless told otherwise
        cmd: [rm, -rf, /srv/site/tmp]
        env: {LANG: C.UTF-8}
        tags: [site]

Text of cmd goes to /bin/sh -c, a list is executed as it stands. `oneshot` with `run_at` is the fourth type.

    procclaw config --validate
    procclaw plan
    procclaw run report -p day=monday --wait

The schema (schema/jobs.schema.json) has every field with its default.""",
    ),
    "scheduling": Topic(
        "cron lines, zones, clock changes, missed times",
        """\
    jobs:
      report:
        cmd: ./report.sh
        type: scheduled
        schedule: "30 2 * * *"     # minute hour day month weekday; also several lines, @daily, @every 90s
        timezone: Europe/Berlin    # the machine's own unless told otherwise
        on_overlap: skip           # if the last run is still active: skip, queue or kill_restart
        catch_up: {policy: latest, within: 3600}   # of times missed while nobody looked: none, latest, all

A line whose minute and hour do not start with * means a time of day: if spring leaves that hour out it runs once when
the gap ends, if autumn has it twice it runs at the first. Every other line follows real time. If both day and weekday
are given without a * in front, either is enough.

Try a line before you trust it:

    procclaw next "30 2 * * *" --tz Europe/Berlin --after 2026-03-28T12:00 -n 3
    procclaw next "*/15 9-17 * * 1-5"
    procclaw next "@every 90s" -n 3
    procclaw next report

What became of every due time, and what is to come:

    procclaw ledger report --since 30d
    procclaw plan --for 7d""",
    ),
    "retry": Topic(
        "what follows when a job fails",
        """\
A failed attempt is followed by another one of the same run: at once, then after 30 s, 5 min, 15 min and 1 h. After that
the run has failed, people are told, and it goes into the dead letter queue. A continuous job comes back in the same
way, and counts afresh once it has stayed up for reset_after.

    jobs:
      once:
        cmd: ./deliver.sh
        retry: {enabled: false}
      patient:
        cmd: ./fetch.sh
        success_exit_codes: [0, 3]
        retry: {delays: [60, 300, 900], max_attempts: 3}
      stubborn:
        cmd: ./server
        type: continuous
        restart: on_failure        # always, on_failure or never
        retry: {preset: exponential, max_attempts: unlimited, reset_after: 30}

max_attempts counts those after the first.

    procclaw runs report --state failed
    procclaw dlq
    procclaw dlq reinject 7
    procclaw start stubborn        # a service that was given up""",
    ),
    "dependencies": Topic(
        "jobs that wait for other jobs, and jobs that exclude each other",
        """\
    jobs:
      database:
        cmd: ./database
        type: continuous
        health_check: {type: tcp, port: 5432, interval: 5}
      api:
        cmd: ./api
        type: continuous
        depends_on:
          - {job: database, condition: after_healthy, timeout: 60}
      report:
        cmd: ./report.sh
        depends_on: [{job: import, condition: after_complete}]
        queue: disk                # one job of a queue at a time
      import:
        cmd: ./import.sh
        queue: disk
        lock: {enabled: true, name: data}

after_start: it runs. after_healthy: its check succeeds. after_complete: it has succeeded. A manual job that is waited
for is started; without a timeout the wait has no end. Nothing is held while waiting, so nothing can deadlock.

    procclaw why report
    procclaw queue
    procclaw chain import report --wait""",
    ),
    "triggering": Topic(
        "runs that something outside starts, and what they are given",
        """\
    jobs:
      ingest:                      # a run for each file that appears and has stopped changing
        cmd: ./ingest.sh "$PROCCLAW_TRIGGER_FILE"
        trigger: {type: file, watch_path: /srv/incoming, pattern: "*.csv", delete_after: true}
        concurrency: {max_instances: 4}
      deploy:                      # asked for by people and programs
        cmd: ./deploy.sh "$PROCCLAW_PARAM_branch"
        params:
          branch: {required: true, pattern: "[a-z0-9-]+"}
          verbose: {default: "no"}
      report:
        cmd: ./report.sh
        dedup: {enabled: true, window_seconds: 60}

A file starts a run once, across restarts too; one that is changed or touched afterwards starts another. delete_after
takes it away once its run has succeeded. Files that arrive together wait for their turn, none is left out.

Params are what a run may be given; others are refused. The job finds them as PROCCLAW_PARAM_NAME, and as ${param:NAME}
in its declaration. With dedup, who asks again within that time for the same params gets the run that is there already.

    procclaw run deploy -p branch=main --wait
    procclaw run deploy -p branch=main --key release-7     # asked again with the same key, it is the same run

Who asks over HTTP, and webhooks, which bring a payload and no params: procclaw help http.""",
    ),
    "workflows": Topic(
        "jobs one after the other, or side by side, as one",
        """\
    jobs:
      fetch: {cmd: ./fetch.sh}
      convert: {cmd: ./convert.sh}
      publish: {cmd: ./publish.sh}
    workflows:
      nightly: {type: chain, jobs: [fetch, convert, publish], on_failure: stop}
      mirrors: {type: group, jobs: [fetch, convert], max_parallel: 1}
      digest: {type: chord, jobs: [fetch, convert], callback: publish, timeout: 3600}

A chain runs one after the other, a group side by side, a chord side by side and then its callback. A step is a run like
any other, with the retries and the gates of its job. on_failure: stop leaves the rest out, continue goes on without the
step, retry begins it anew, at most three times in all.

JSON that a step leaves in $PROCCLAW_RESULT_FILE is in $PROCCLAW_INPUT_FILE of those after it, which find of the step
just before them PROCCLAW_PREV_EXIT_CODE, PROCCLAW_PREV_RUN_ID and PROCCLAW_PREV_STDOUT as well.

    procclaw workflow run nightly --wait
    procclaw workflow runs
    procclaw workflow show k3v9                # step by step
    procclaw workflow retry k3v9               # from where it failed
    procclaw chain fetch convert publish       # one that is declared nowhere""",
    ),
    "health": Topic(
        "how a running job is known to be well",
        """\
    jobs:
      web:
        cmd: ./web
        type: continuous
        health_check:
          type: http               # process, http, tcp, file, exec or none
          url: http://127.0.0.1:8080/health
          interval: 10             # seconds between two checks
          timeout: 3
          failures: 3              # so many in a row make it unhealthy
          start_period: 30         # failures do not count until then
          on_unhealthy: restart    # or alert, which only tells
      worker:
        cmd: ./worker
        type: continuous
        health_check: {type: exec, cmd: "test -e /run/worker.ready"}

While a job comes up it is checked more often, so who waits for it (after_healthy) does not wait longer than need be.

    procclaw status web
    procclaw list --status running""",
    ),
    "output": Topic(
        "where what a job prints goes, and how to read it",
        """\
A job writes to files itself, logs/JOB.log and logs/JOB.error.log in the home, so it goes on when the daemon is gone.

    procclaw logs api -f                   # Ctrl-C ends the looking, not the job
    procclaw logs api -n 20 --stderr
    procclaw logs api --since 15m
    procclaw runs api                      # find the run, then only what that one wrote
    procclaw runs logs k3v9

Files are rotated under the running job without losing a line:

    jobs:
      api:
        cmd: ./api
        type: continuous
        log: {max_size: 5MB, rotate: 3, timestamps: true}

JSON that a job leaves in the file that PROCCLAW_RESULT_FILE names is kept with the run. What the daemon did is in
logs/daemon.log: procclaw daemon logs.""",
    ),
    "stopping": Topic(
        "what stop does, and how it differs from pause and revoke",
        """\
    procclaw stop api              # ends it and, if it is continuous, keeps it stopped until start
    procclaw stop api --force      # SIGKILL at once
    procclaw pause report          # what runs goes on, nothing new starts, until resume
    procclaw revoke report --expires 2h    # a pause that cancels what waits and ends by itself
    procclaw daemon stop           # the daemon alone: jobs go on
    procclaw daemon stop --jobs    # everything, until daemon start

stop sends the signal, waits for the grace period, kills what is left, and is done when nothing of the job is alive:
children that ignore signals or changed their session included. What a job leaves running when it ends by itself (& or
nohup) is stopped the same way; shutdown: {leftovers: keep} leaves it alone.

    jobs:
      api:
        cmd: ./api
        type: continuous
        shutdown: {signal: SIGINT, grace_period: 20}

A job that should never start by itself is disabled in jobs.yaml (enabled: false).""",
    ),
    "waiting": Topic(
        "why a job is not running, and what would free it",
        """\
    procclaw why report            # the first cause, the command that helps, then every gate
    procclaw queue                 # all runs that wait, in their order
    procclaw ledger report         # a due time that did not run: skipped or missed, and why
    procclaw runs show k3v9        # a run that failed
    procclaw plan                  # what would be done now

Gates are a person's hold (stopped, paused, revoked), the schedule, a dependency, max_instances, the queue, a lock,
max_parallel and the time of the next retry. A run starts when all are open at one moment.

    jobs:
      report:
        cmd: ./report.sh
        priority: high             # critical, high, normal, low: who of those that wait goes first
        queue: disk
        concurrency: {max_instances: 1}

Without a daemon something must look: procclaw daemon start, or procclaw reconcile from cron.""",
    ),
    "alerting": Topic(
        "who is told when something is wrong, and how",
        """\
In procclaw.yaml, for all jobs:

    alerts:
      webhook: https://hooks.example/procclaw
      command: notify-send "$PROCCLAW_ALERT_MESSAGE"

In jobs.yaml, of what, and elsewhere if need be:

    jobs:
      backup:
        cmd: ./backup.sh
        type: scheduled
        schedule: "30 2 * * *"
        alerts: {on_failure: true, on_missed: true}
        expect: {by: "06:30"}      # tell if it has not succeeded by then, whatever the reason

The same thing is told once within cooldown (300 s), and its end is told too. What did not arrive is sent again, for a
day. A message never holds a job's output.

    procclaw alerts backup -n 10""",
    ),
    "exit-codes": Topic(
        "what procclaw's exit codes mean, and those of jobs",
        """\
  0    done
  1    refused, or failed as told: a job that was waited for failed
  2    wrong usage, or a mistake in the configuration
  3    a bug in ProcClaw; the message names a report
  4    a daemon was needed and none runs
  10   plan, reconcile --dry-run: there is something to do
  130  interrupted with Ctrl-C; what was asked for goes on
  141  whoever read the output has gone

With --json a failure is {"error": {"code", "message"}}; code not_over, with the run_id, is a run that was waited for as
long as --timeout said, and goes on.

    procclaw run report --wait             # 1 if the first attempt failed
    procclaw run report --until-final      # 1 if the run failed, retries included
    procclaw config --validate

A job's own code is in runs show. 0 counts as success unless told otherwise, and 128+n means that signal n ended it:

    jobs:
      compare:
        cmd: diff a b
        success_exit_codes: [0, 1]""",
    ),
    "files": Topic(
        "what lies where in a home",
        """\
The home is --home DIR, else PROCCLAW_HOME, else ~/.procclaw. One user, one machine. A file that procclaw up runs
has one of its own, below ~/.local/state/procclaw/up.

  procclaw.yaml   settings: daemon, api, alerts, history, the base environment
  jobs.yaml       jobs, queues, workflows; jobs.d/*.yaml may hold more
  procclaw.db     all that is recorded
  logs/           JOB.log, JOB.error.log, daemon.log, crash reports
  records/        a small file for each attempt; while it is locked, that attempt lives
  work/           payloads, inputs and results of attempts

Settings of procclaw.yaml:

    history: {keep_runs: 100, keep_days: 30}
    env: {PATH: "/usr/local/bin:/usr/bin:/bin"}

To look and to check:

    procclaw config
    procclaw config --validate
    procclaw env report --explain""",
    ),
    "cron": Topic(
        "working without a daemon, from a crontab",
        """\
Every command works without a daemon. What is due is started by whoever looks, so let cron look once a minute:

    * * * * *  /usr/local/bin/procclaw reconcile

One pass starts what is due, brings services back, checks health and delivers alerts. Jobs go on between two passes, and
their exit codes are found by the next. A due time that no pass saw is made up for as catch_up says. Both at once, a
daemon and cron, are harmless: one lock decides who acts.

    procclaw reconcile --dry-run   # what it would do; exit 10 if anything
    procclaw list                  # says so when something waits for a pass

What a pass cannot do is be quick: a job that ends comes back, and a file that triggers is seen, up to a minute later.
For cron lines see procclaw help scheduling.""",
    ),
    "http": Topic(
        "the dashboard, the API, metrics and webhooks",
        """\
While the daemon runs it serves, on http://127.0.0.1:9876 unless procclaw.yaml says otherwise:

  /               a dashboard
  /api/v1/...     jobs, runs, requests; /openapi.json describes it
  /metrics        for Prometheus
  /health         503 when the configuration is invalid or the loop is late

    curl localhost:9876/api/v1/jobs?status=failed

Without a token only processes of the same user and of root are served. To let others in, in procclaw.yaml:

    daemon: {host: 127.0.0.1, port: 9876}
    api:
      auth: {enabled: true, token: "a-long-random-text-of-your-own"}

A job that something outside may start, by POST /api/v1/trigger/deploy:

    jobs:
      deploy:
        cmd: ./deploy.sh "$PROCCLAW_PAYLOAD_FILE"
        trigger: {type: webhook, auth_token: "another-long-random-text"}

    procclaw daemon status         # where it is, or why it is not served
    procclaw trigger deploy --payload '{"ref": "main"}'""",
    ),
    "secrets": Topic(
        "passwords and tokens: where they are kept, and how jobs get them",
        """\
    procclaw secret set DB_PASSWORD            # prompted for, or read from a pipe
    procclaw secret list
    procclaw secret get DB_PASSWORD --show

A job names it, in env or in a text cmd, and gets the value when it starts:

    jobs:
      export:
        cmd: ./export.sh
        env: {PGPASSWORD: "${secret:DB_PASSWORD}"}
      ping:
        cmd: 'curl -H "Authorization: Bearer ${secret:API_TOKEN}" https://api.example/ping'

So can procclaw.yaml, for addresses and tokens of its own:

    alerts: {webhook: "${secret:ALERT_URL}"}

It is kept in the keychain (macOS Keychain, Secret Service on Linux) where there is one, else in the file .secrets of
the home, which is refused when others can read it. What the keychain has is never looked for in the file: while the
keychain is locked the job's start fails and says so. `secret set NAME --file` puts one into the file all the same.

No value reaches a command line, the log, the database, the API, an alert or a crash report. A running job keeps the
value it was started with.

    procclaw env export --explain              # where each variable comes from; secrets as stars
    procclaw restart export                    # after a value was changed""",
    ),
    "boot": Topic(
        "started with the machine: systemd, launchd or cron",
        """\
    procclaw service install                   # systemd user unit, or launchd agent, for this very file
    procclaw service status
    procclaw service uninstall                 # jobs live on
    procclaw doctor                            # what is wrong with the set-up, and what to do about it

Harmless to repeat: after an upgrade, or when the file has moved, install again. On Linux a user's services start at
log-in unless the user lingers, which the command says, with what to do about it:

    loginctl enable-linger

Where there is neither, or no daemon is wanted, cron looks once a minute:

    procclaw service install --cron

Another home is another service:

    procclaw service install --home /srv/jobs

What is declared in procclaw.yaml is all that jobs find, whoever starts the daemon:

    env: {PATH: "/opt/tools/bin:/usr/local/bin:/usr/bin:/bin", TZ: Europe/Berlin}
    daemon: {pass_env: [SSH_AUTH_SOCK]}

See procclaw help cron for working without a daemon.""",
    ),
    "agents": Topic(
        "OpenClaw: alerts in chats, a skill for its agent, and its memory",
        """\
In procclaw.yaml; nothing of it happens unless enabled:

    openclaw:
      enabled: true
      memory_logging: true
      alerts:
        enabled: true
        channels: [whatsapp, "telegram:123456789"]   # without a target: its owner
        notify_agent: wake                           # off, wake, or agent
        fallback: {webhook: "https://hooks.example/procclaw"}

`wake` lets the agent know; `agent` asks it to look into the matter and to answer in the first channel, and needs
`hooks.enabled` in OpenClaw's configuration, and the token of its hooks here:

    openclaw:
      hooks: {url: "http://127.0.0.1:18789/hooks", token: "${secret:OPENCLAW_HOOKS}"}

An alert counts as delivered if a channel or the fallback took it, whatever the agent does. While the gateway is away
alerts wait; what has become much, or older than an hour, arrives as one message.

    procclaw openclaw install-skill            # teaches its agents to use procclaw; again after an upgrade
    procclaw openclaw test-alert               # the real way, and what became of it
    procclaw openclaw status                   # exit 0: the agents see the skill
    procclaw alerts                            # what was told, and what was not

Any agent is best served by --json, by exit codes (procclaw help exit-codes) and by procclaw why JOB.""",
    ),
}
