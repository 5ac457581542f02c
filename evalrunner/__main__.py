"""`python -m evalrunner`, the same program as the commands `evalrun` and `evalrunner`."""

from __future__ import annotations

from evalrunner.cli.main import main

if __name__ == "__main__":
    main()
