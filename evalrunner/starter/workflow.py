"""The workflow that `evalrun init --ci` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

System = Literal["github", "gitlab"]

PATHS: Final = {"github": ".github/workflows/evals.yml", "gitlab": ".gitlab-ci.yml"}

GITHUB: Final = """\
# Runs the suite for every pull request. The exit code reflects the verdict.
# OWNER/evalrun is the repository of evalrun, or your fork of it: replace OWNER, and main by the SHA of a commit.
name: evals
on: pull_request
permissions:
  contents: read
  pull-requests: write        # the comment
jobs:
  evals:
    runs-on: ubuntu-latest
{env}    steps:
      - uses: actions/checkout@v6
      - uses: OWNER/evalrun@main
        with:
          suites: {suite}
          fail-on: fail             # an outage of the provider is a warning
          comment: true
"""

GITLAB: Final = """\
# Runs the suite for every merge request. The exit code reflects the verdict.
# HOST/OWNER/evalrun is the repository of evalrun, or your fork of it: replace HOST and OWNER.
{about}evals:
  image: python:3.12
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  before_script:
    - pip install "evalrunner{extras} @ git+https://HOST/OWNER/evalrun.git"
  script:
    - evalrun {suite}
  allow_failure:
    exit_codes: [3, 4]        # the provider is down, or there are too few samples: a warning
  artifacts:
    when: always
    paths: [runs]
    reports:
      junit: runs/*/*/junit.xml
"""


def workflow(system: System, suite: str, variables: Sequence[str], extras: Sequence[str]) -> str:
    """The workflow for a suite whose models need these variables and extras."""
    if system == "github":
        env = "".join(f"      {name}: ${{{{ secrets.{name} }}}}\n" for name in variables)
        text = GITHUB.format(env=f"    env:\n{env}" if env else "", suite=suite)
        return text + (f"          extras: {','.join(extras)}\n" if extras else "")
    about = f"# Set {' and '.join(variables)} as a masked variable of the project.\n" if variables else ""
    return GITLAB.format(about=about, suite=suite, extras=f"[{','.join(extras)}]" if extras else "")
