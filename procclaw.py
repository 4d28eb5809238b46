"""Starts ProcClaw from a checkout; it is also the `__main__` of procclaw.pyz."""

import os
import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - pip enforces this, the .pyz has nobody else to say it
        sys.exit(f"procclaw: needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    # The .pyz has a tree of compiled modules per Python version, and sources for any version without one.
    archive = os.path.dirname(__file__)
    if os.path.isfile(archive):
        sys.path.insert(0, f"{archive}/c{sys.version_info[0]}{sys.version_info[1]}")
    try:
        from procclaw.interface.cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
