"""Seconds to put the configuration of a home in force, read by a parser in Python, and to find it there again."""

import json
import sys
import time

PYZ, HOME = sys.argv[1:]
# No other PyYAML, whose C parser would be used, may be found.
sys.path = [place for place in sys.path if "site-packages" not in place and "dist-packages" not in place]
sys.path[:0] = [f"{PYZ}/c{sys.version_info[0]}{sys.version_info[1]}", PYZ]


def main() -> None:
    print(json.dumps({"first": seconds(), "again": seconds()}))


def seconds() -> float:
    from procclaw.engine.configuration import Configuration
    from procclaw.engine.files import ConfigurationFiles
    from procclaw.engine.home import Home

    began = time.perf_counter()
    with Home(HOME) as home:
        now = home.clock.now()
        in_force = Configuration(ConfigurationFiles(HOME), home.store).current(now)
        assert in_force is not None
        assert in_force.spec.jobs
    return time.perf_counter() - began


main()
