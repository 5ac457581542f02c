"""`python -m evalrunner`, the same as the command `evalrun`."""

from __future__ import annotations

from evalrunner.cli.main import main

if __name__ == "__main__":
    main()
