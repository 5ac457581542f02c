"""`python -m evalrunner`, the same program as the commands `evalrun` and `evalrunner`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:  # the working folder comes last: its json.py or yaml.py must not replace a library
        sys.path.append(sys.path.pop(0))
    from evalrunner.cli.main import main

    main()
