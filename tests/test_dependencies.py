"""What pyproject.toml allows to be installed, and that CI tests its ends."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from tests.fakes.command import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]
MALICIOUS = {"litellm": ("1.82.7", "1.82.8", "1.107.0")}  # as reported


@pytest.mark.parametrize("name", MALICIOUS)
def test_releases_reported_as_malicious_are_not_installed(name: str) -> None:
    ranges = [requirement.specifier for requirement in REQUIREMENTS if requirement.name == name]
    assert ranges
    assert [(str(allowed), bad) for allowed in ranges for bad in MALICIOUS[name] if bad in allowed] == []


def test_every_dependency_of_users_has_a_lower_bound() -> None:
    loose = [
        requirement.name
        for requirement in REQUIREMENTS
        if requirement.name not in ("evalrunner", "pandas-stubs", "types-PyYAML")
        and not any(bound.operator in (">=", "==", "~=") for bound in requirement.specifier)
    ]
    assert loose == []


@pytest.mark.parametrize("target", ["check", "test", "test-slow", "test-lowest", "test-newest"])
def test_ci_runs_all_tests_and_those_of_other_versions(target: str) -> None:
    assert f"\nmake {target}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
