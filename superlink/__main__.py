"""`python -m superlink`: the command line."""

from __future__ import annotations

from superlink.cli import main

if __name__ == "__main__":
    main()
