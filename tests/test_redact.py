"""Redaction of API keys: all spellings, names of variables and options, and texts that stay as they are."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner import redact as module
from evalrunner.redact import (
    REDACTED,
    forget_secret,
    redact,
    redact_message,
    register_environment,
    register_secret,
    without_secrets,
)
from evalrunner.secret_names import is_secret_name, is_secret_option
from tests.attacks.spellings import SPELLINGS, find_canaries

KEYS = (
    "sk-proj-Ab3/x+9_QzW7-pLm2",
    "nvapi-0041abcdef99",
    "hunter",
    "correct horse battery",
    'pa"ss,w0rd&<x>',
    "sl\\ash\\n1",
    "{}$%41abc?",
    "f00fabad1dea",
)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_secrets", {})
    monkeypatch.setattr(module, "_finder", None)
    yield
    module._finder = None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_is_redacted_in_every_spelling_and_json_stays_valid(key: str, spelling: str) -> None:
    register_secret(key)
    written = SPELLINGS[spelling](key)
    if spelling == "upper case" and not (len(key) >= 12 and any(sign.isdigit() for sign in key)):
        assert redact(written) == written  # short ones would damage words
        return
    if "\\" in key and "split by escaped" in spelling:
        return  # which backslash is whose cannot be known
    core = {"key": "".join(key.split())}
    assert find_canaries(written, core)
    for text in (written, f"before {written} after", f"\t{written}\n", f"é{written}é"):
        assert REDACTED in redact(text), text
        assert not find_canaries(redact(text), core), redact(text)
        for ensure_ascii in (True, False):
            line = json.dumps({"id": "a", "text": [text, "more"], "n": 1.5}, ensure_ascii=ensure_ascii)
            data = json.loads(redact(line))
            assert not find_canaries(json.dumps(data), core), data
            assert (data["id"], data["text"][1], data["n"]) == ("a", "more", 1.5)
        table = io.StringIO()
        csv.writer(table).writerow(["a", text, "more"])
        (cells,) = csv.reader(io.StringIO(redact(table.getvalue())))
        assert (cells[0], cells[-1]) == ("a", "more")
        assert not find_canaries("|".join(cells), core), cells


def test_texts_without_a_key_stay_as_they_are() -> None:
    for key in KEYS:
        register_secret(key)
    rng = random.Random(7)
    signs = "abcdefsknvpi0123456789-_/+=%&;#\\u\"'<>{}[]:, \n\té\u200b東"
    for _ in range(3_000):
        text = "".join(rng.choice(signs) for _ in range(rng.randrange(120)))
        assert redact(text) == text


def test_a_key_is_found_among_many_secrets_of_all_kinds() -> None:
    """The search looks at characters that it chooses for all secrets together."""
    for key in (*KEYS, "postgres", "0123456789", "aaaaaaaa", "пароль-секрет"):
        register_secret(key)
    for spelling in SPELLINGS:
        written = SPELLINGS[spelling](KEYS[0])
        line = json.dumps({"messages": [{"content": f'line 1\n"{written}"\n'}], "latency_s": 0.4712})
        assert REDACTED in redact(line), spelling
        assert not find_canaries(redact(line), {"key": KEYS[0]})


def test_broken_escapes_before_a_key_leave_json_valid() -> None:
    for key in KEYS:
        register_secret(key)
    for key in KEYS:
        for before in ("\n", "\t", "\\", "\\\\", "\\\\\n", "\u0041", "\x00", "\x1b", "\ud83d", '"', "\\u00", "%", "&"):
            for cut in (key, key[1:], key[2:], key[4:]):
                for ensure_ascii in (True, False):
                    line = json.dumps({"text": before + cut, "n": 1}, ensure_ascii=ensure_ascii)
                    assert json.loads(redact(line))["n"] == 1


def test_secrets_of_digits_leave_numbers_alone() -> None:
    register_secret("123456")
    data = {"latency_s": 0.123456, "tokens": 123456, "text": "the pin is 123456.", "long": "91234567", "list": [123456]}
    shown = json.loads(redact(json.dumps(data)))
    assert shown == {**data, "text": f"the pin is {REDACTED}."}


def test_words_of_files_and_short_values_are_no_secrets() -> None:
    register_environment(
        {"MY_KEY": "target", "OTHER_KEY": "scored", "A_TOKEN": "abc", "B_TOKEN": "", "C_KEY": "ollama"}
    )
    assert redact('{"target":"ollama","state":"scored abc"}') == '{"target":"ollama","state":"scored abc"}'


def test_a_forgotten_secret_is_shown_again() -> None:
    register_secret("public-model-name")
    forget_secret("public-model-name")
    assert redact("public-model-name") == "public-model-name"


def test_lines_of_a_private_key_are_secrets_of_their_own() -> None:
    lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"]
    register_secret("-----BEGIN PRIVATE KEY-----\n" + "\n".join(lines) + "\n-----END PRIVATE KEY-----\n")
    assert lines[1] not in redact(f"line 2 is {lines[1]}")


SECRET = "Zq7-canary-81x-5kd"
VARIABLES = {
    **dict.fromkeys(("OPENAI_API_KEY", "OPENAI_API_KEY_2", "OPENAI_API_KEY_PROD", "KEY_OPENAI", "openai_api_key", "WATSONX_APIKEY", "PGPASSWORD", "MYSQL_PWD", "GH_PAT", "GITHUB_PAT", "DB_PASS", "SMTP_PASS_2", "ADMIN_PWD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "NPM_TOKEN", "GOOGLE_CREDENTIALS", "COOKIE_SIGNING", "SSH_PRIVATE_KEY", "SSHPASS", "SLACK_SIGNING_SECRET", "REDISCLI_AUTH", "VAULT_TOKEN", "HF_TOKEN", "openaiApiKey", "JWT", "MY_SECRET_NEW", "GPG_PASSPHRASE", "AZURE_CLIENT_SECRET", "BASIC_AUTH", "PASSWORD", "TOKEN_GITHUB"), SECRET),
    "DATABASE_URL": f"postgres://user:{SECRET}@db:5432/x", "HTTPS_PROXY": f"http://user:{SECRET}@proxy:3128",
    "ANYTHING": f"https://host/v1?api-key={SECRET}&x=1", "BLOB": f"https://host/x?sv=1&sig={SECRET}",
    "SENTRY_DSN": f"https://{SECRET}@o1.ingest.example/4", "MYSQL_DSN": f"user:{SECRET}@tcp(db)/x",
    "STORAGE": f"AccountName=a;AccountKey={SECRET};EndpointSuffix=x", "ODBC": f"Server=db;Pwd={SECRET};",
    "SLACK_WEBHOOK_URL": f"https://hooks.slack.example/services/T0/B0/{SECRET}", "CLONE": f"https://{SECRET}@github.example/a/b",
    "SERVICE_ACCOUNT": json.dumps({"type": "service_account", "private_key": SECRET}),
}  # fmt: skip
HARMLESS = {
    "KEYBOARD": "us-intl-layout", "TOKENIZERS_PARALLELISM": "false-value", "PATH": "/usr/bin:/bin", "PATIENCE": "endless",
    "MONKEY": "banana", "SSH_AUTH_SOCK": "/tmp/agent.sock", "PASSENGER_APP_ENV": "production", "PWD": "/home/me/work",
    "OLDPWD": "/home/me/other", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "KEY_FILE": "/etc/some.pem", "TOKEN_LIMIT": "100000",
    "MAX_TOKENS": "100000", "EOS_TOKEN": "<|endoftext|>", "PUBLIC_KEY": "ssh-ed25519", "SECRETARY": "Bernadette",
    "PASSWORD_STORE_DIR": "/home/me/store", "COMPASS": "northeast", "SECRET_NAME": "my-secret", "AUTHOR": "somebody",
    "GIT_ASKPASS": "/bin/askpass", "HOTKEY": "control-x", "API_KEY": "not-needed", "KEY_ID": "0123456", "USER": "operator",
    "PLAIN_URL": "https://user@host.example/path?page=2", "LS_COLORS": "rs=0:di=01;34", "TOKEN_URL": "https://login.example/t",
}  # fmt: skip


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_whose_values_are_secrets(name: str) -> None:
    register_environment({name: VARIABLES[name]})
    assert redact(f"it is {SECRET}.") == f"it is {REDACTED}."


@pytest.mark.parametrize("name", HARMLESS)
def test_variables_whose_values_are_none(name: str) -> None:
    register_environment({name: HARMLESS[name]})
    assert redact(f"it is {HARMLESS[name]}.") == f"it is {HARMLESS[name]}."


def test_the_path_of_a_file_of_credentials_is_none(tmp_path: Path) -> None:
    file = tmp_path / "service-account.json"
    file.write_text("{}")
    register_environment({"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert redact(str(file)) == str(file)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("api_key", "x", True),
        ("azure_ad_token", "x", True),
        ("aws_secret_access_key", "x", True),
        ("aws_session_token", "x", True),
        ("vertex_credentials", "{}", True),
        ("extra_headers", {}, True),
        ("default_headers", {}, True),
        ("subscription-key", "x", True),
        ("token", "abcdefgh12345678", True),
        ("key", "AIzaSyA1234567890", True),
        ("client_secret", "x", True),
        ("X-Auth", "abcdefgh12345678", True),
        ("key", "answer", False),
        ("token", "|", False),
        ("max_tokens", 5, False),
        ("eos_token", "<|end_of_text_2024|>", False),
        ("stop_token", "abcdefgh12345678", False),
        ("keyword", "abcdefgh12345678", False),
        ("tokenizer", "cl100k_base_0123456", False),
        ("keys", ["a"], False),
    ],
)
def test_options_whose_values_are_secrets(name: str, value: object, secret: bool) -> None:
    assert is_secret_option(name, value) is secret


def test_public_data_has_no_secret_and_keeps_names_of_variables() -> None:
    data = {
        "params": {"api_key": "sk-literal-key", "max_tokens": 5, "extra_headers": {"X-Team": "t", "A": "${B}"}},
        "url": "https://me:secret-word@host/v1",
        "uri": "https://me:${PASSWORD}@host",
        "tags": ["a", None],
    }
    assert without_secrets(data) == {
        "params": {"api_key": REDACTED, "max_tokens": 5, "extra_headers": {"X-Team": REDACTED, "A": "${B}"}},
        "url": "https://host/v1",
        "uri": "https://me:${PASSWORD}@host",
        "tags": ["a", None],
    }


def test_messages_of_other_software_have_no_login() -> None:
    assert redact_message("cannot reach http://me:p@ss@proxy:1/x, Bearer abcdefgh") == (
        f"cannot reach http://proxy:1/x, Bearer {REDACTED}"
    )


def test_names_of_variables_are_read_as_words() -> None:
    assert is_secret_name("MY_API_KEY_V2")
    assert not is_secret_name("")
    assert not is_secret_name("___")
