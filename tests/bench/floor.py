"""What `floor.c` does, where there is no C compiler: the same words, and the same loops in Python."""

import os
import signal
import sys


def main(argv: list[str]) -> int:
    match argv:
        case ["spawn", count, fifo]:
            for _ in range(int(count)):
                start(bell(fifo))
            while True:
                signal.pause()
        case ["restart", fifo]:
            while True:
                os.waitpid(start(bell(fifo)), 0)
        case ["run", count, most]:
            run(int(count), int(most))
            return 0
    return 2


def bell(fifo: str) -> list[str]:
    return ["/bin/sh", "-c", f'echo "${{PROCCLAW_JOB_ID:--}} $$" >{fifo}; exec sleep 1000000']


def start(argv: list[str]) -> int:
    return os.posix_spawn(argv[0], argv, os.environ, setsid=True)


def run(count: int, most: int) -> None:
    running = 0
    for _ in range(count):
        if running == most:
            os.wait()
            running -= 1
        start(["/bin/sh", "-c", "exit 0"])
        running += 1
    for _ in range(running):
        os.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
