"""What `python -m procclaw` runs: the command line."""

import sys

from procclaw.interface.cli import main

if __name__ == "__main__":
    sys.exit(main())
