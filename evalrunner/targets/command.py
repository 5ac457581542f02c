"""A program as the target: the input in its arguments or on stdin, the answer on stdout. No shell is involved."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.clock import CLOCK
from evalrunner.domain import EMPTY, Completion, Failure, Message, Sample
from evalrunner.endpoints.http import read_service
from evalrunner.formatting import plain_text
from evalrunner.plugins import PluginContext
from evalrunner.prompts import template_context
from evalrunner.redact import redact_message
from evalrunner.spelling import exact_json
from evalrunner.storage import is_file
from evalrunner.targets.http import Fill, compile_body
from evalrunner.templates import TEMPLATE_MARKS, PromptError, compile_template

PASSED_ON: Final = frozenset(
    {
        "APPDATA", "COMSPEC", "HOME", "LANG", "LANGUAGE", "LOCALAPPDATA", "LOGNAME", "PATH", "PATHEXT", "SYSTEMROOT", "TEMP",
        "TMP", "TMPDIR", "TZ", "USER", "USERNAME", "USERPROFILE", "VIRTUAL_ENV",
    }
)  # fmt: skip
"""The variables that every program gets, besides those of `env` and the locale."""
RUNS_CODE: Final = re.compile(
    r"(?:[a-z]{0,3}sh|python[\d.]*|pypy[\d.]*|perl|ruby|node|php|pwsh|powershell|cmd)(?:\.exe)?"
)
CODE_OPTION: Final = re.compile(r"-[A-Za-z]*[cerECR]|--(?:eval|command|print|run)|/[cCkK]|-[Cc]ommand")
LAST_WORDS: Final = 300  # characters of stderr in a message


def command(
    context: PluginContext,
    *,
    command: list[str],
    stdin: Any = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    output: str | None = None,
    input_tokens: str | None = None,
    output_tokens: str | None = None,
    cost: str | None = None,
    tool_calls: str | None = None,
) -> CommandTarget:
    """Runs a program for each sample: input on stdin or in arguments, the answer on stdout; no shell is involved.

    Args:
        command: The program and its arguments; every argument is a template. It runs in the folder of the suite.
        stdin: Template of the text on stdin, or a mapping or list that is sent as JSON; default: the input, unless an argument is a template.
        env: Variables of the program, besides PATH, HOME, the locale and the like; `${VAR}` is replaced.
        timeout: Seconds until the program and all that it has started are killed; default: that of `run`.
        output: Dotted path of the answer in JSON on stdout; default: all of stdout.
        input_tokens: Dotted path of the number of prompt tokens.
        output_tokens: Dotted path of the number of completion tokens.
        cost: Dotted path of the cost in US dollars.
        tool_calls: Dotted path of the tool calls, in any common format; an answer without them has none.
    """
    if not command:
        raise ValueError("command needs a program, such as [python, app.py]")
    if timeout is not None and timeout <= 0:
        raise ValueError("timeout should be more than 0 seconds")
    if any(mark in command[0] for mark in TEMPLATE_MARKS):
        raise ValueError("command: the program is no template, because data must not choose it")
    _refuse_code(command)
    environ = {**environment(), **(env or {})}
    program = find_program(command[0], context.folder, environ.get("PATH"))
    templated = any(mark in text for text in command[1:] for mark in TEMPLATE_MARKS)
    fills = [
        compile_template(f"argument {number}", text, limits=context.limits)
        for number, text in enumerate(command[1:], 1)
    ]
    if stdin is not None:
        fill: Fill | None = compile_body(stdin, context.limits)
    else:
        fill = None if templated else (lambda values: plain_text(values["input"]))
    paths = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cost": cost, "tool_calls": tool_calls}
    return CommandTarget(
        program, Path(command[0]).name, context.folder, environ,
        Templates(tuple(command[1:]), tuple(fills), fill), {"output": output, **paths}, timeout,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Templates:
    """The arguments after the program as they are written, their templates, and that of stdin."""

    written: tuple[str, ...]
    arguments: tuple[Fill, ...] = field(repr=False)
    stdin: Fill | None = field(repr=False)

    def render(self, sample: Sample) -> tuple[list[str], str | None]:
        """The arguments and the text on stdin. Raises PromptError if a sample lacks something, or would set an option."""
        context = template_context(sample)
        arguments: list[str] = []
        for number, (written, fill) in enumerate(zip(self.written, self.arguments, strict=True), 1):
            text = fill(context)
            if "\0" in text:
                raise PromptError(
                    f"argument {number} has a NUL character, which no argument can have; send it on stdin"
                )
            if text.startswith("-") and not written.startswith("-") and "--" not in self.written[: number - 1]:
                raise PromptError(
                    f"argument {number} would begin with '-', so the program may take it for an option; put '--' before "
                    f"it, write it as --name={written}, or send it on stdin"
                )
            arguments.append(text)
        if self.stdin is None:
            return arguments, None
        filled = self.stdin(context)
        try:
            return arguments, filled if isinstance(filled, str) else exact_json(filled, allow_nan=False, default=str)
        except (TypeError, ValueError, RecursionError) as unfit:
            raise PromptError(f"stdin cannot be written as JSON: {unfit}") from None


@dataclass(frozen=True, slots=True)
class CommandTarget(SampleValidator):
    """Runs the program for each sample. `timeout_s` None: no limit of its own."""

    program: str
    name: str
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    templates: Templates
    paths: Mapping[str, str | None] = EMPTY
    timeout_s: float | None = None

    @property
    def reports_cost(self) -> bool:
        """Whether the program reports the cost of a call, which is not known before it."""
        return self.paths.get("cost") is not None

    def check(self, sample: Sample) -> str | None:
        """None if the templates render. Raises PromptError if they do not."""
        self.templates.render(sample)
        return None

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        arguments, stdin = self.templates.render(sample)
        messages = (_sent(arguments, stdin),)
        started = CLOCK.timer()
        try:
            ended = await run_program(
                [self.program, *arguments], None if stdin is None else stdin.encode(errors="replace"),
                folder=self.folder, environ=self.environ, timeout_s=self.timeout_s or float("inf"),
            )  # fmt: skip
        except TimeoutError:
            return Failure("timeout", f"{self.name} did not end within {self.timeout_s:g} s; killed", messages=messages)
        except OutputTooLong:
            message = f"{self.name} wrote more than {MAX_OUTPUT_BYTES // 2**20} MiB to stdout; killed"
            return Failure("malformed", message, messages=messages)
        except (OSError, ValueError) as broken:
            return self._not_started(broken, messages)
        return self._answer(ended, CLOCK.timer() - started, messages)

    def _not_started(self, broken: OSError | ValueError, messages: tuple[Message, ...]) -> Failure:
        if isinstance(broken, OSError) and broken.errno == errno.E2BIG:
            return Failure(
                "bad_request", f"the arguments of {self.name} are too long; send them on stdin", messages=messages
            )
        reason = broken.strerror if isinstance(broken, OSError) else str(broken)
        return Failure("function", f"{self.name} cannot be started: {reason}", messages=messages)

    def _answer(self, ended: Ended, latency_s: float, messages: tuple[Message, ...]) -> Completion | Failure:
        if ended.code:
            words = last_words(ended.errors)
            return Failure(
                "function", f"{self.name} {_how(ended.code)}" + (f": {words}" if words else ""), messages=messages
            )
        answer = read_service({name: path for name, path in self.paths.items() if path}, ended.output, latency_s)
        if isinstance(answer, Failure):
            return _renamed(answer, messages)
        text = answer.text if self.paths.get("output") else answer.text.rstrip("\r\n")
        return Completion(
            text, answer.finish_reason, latency_s, input_tokens=answer.input_tokens, output_tokens=answer.output_tokens,
            cost_usd=answer.cost_usd, tool_calls=answer.tool_calls, messages=messages,
        )  # fmt: skip


def environment() -> dict[str, str]:
    """The variables of this process that every program gets: none that holds a key."""
    return {name: value for name, value in os.environ.items() if name.upper() in PASSED_ON or name.startswith("LC_")}


def find_program(name: str, folder: Path, path: str | None) -> str:
    """The absolute path of a program: with a slash relative to the suite, else on PATH. Raises ValueError."""
    if os.sep in name or "/" in name:
        found = shutil.which(os.path.abspath(folder / name))  # noqa: PTH100  a link stays one, as in virtual environments
        if found is None:
            why = "is not executable" if (folder / name).is_file() else f"is not a file in {str(folder)!r}"
            raise ValueError(f"command: {name!r} {why}")
        return found
    if not name.strip() or (found := shutil.which(name, path=path)) is None:
        beside = f"; write ./{name} for the one beside the suite" if name and (folder / name).is_file() else ""
        raise ValueError(f"command: there is no program {name!r} on PATH{beside}")
    return os.path.abspath(found)  # noqa: PTH100


def program_files(words: Any, folder: Path) -> dict[str, str]:
    """The sha256 of each file of the suite's folder among the words of a command."""
    digests: dict[str, str] = {}
    for word in words if isinstance(words, list) else ():
        if isinstance(word, str) and not Path(word).is_absolute() and is_file(path := folder / word):
            with contextlib.suppress(OSError):
                digests[word] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def last_words(errors: bytes) -> str:
    """The end of what a program wrote to stderr, on one line and without secrets."""
    text = redact_message(" ".join(errors.decode("utf-8", "replace").split()))
    return text if len(text) <= LAST_WORDS else f"…{text[-LAST_WORDS:]}"


def _refuse_code(command: list[str]) -> None:
    """Raises ValueError if data would become a part of a program: `[sh, -c, "echo {{ input }}"]`."""
    for place, word in enumerate(command):
        if not RUNS_CODE.fullmatch(re.split(r"[/\\]", word)[-1].lower()):
            continue
        for number in range(place + 2, len(command)):
            option = command[number - 1]
            if not option.startswith(("-", "/")):
                break  # a script, which has options of its own
            if CODE_OPTION.fullmatch(option) and any(mark in command[number] for mark in TEMPLATE_MARKS):
                raise ValueError(
                    f"command: argument {number} would be run as code by {word!r}, with data in it; pass the data on "
                    "stdin or as an argument of its own"
                )


def _how(code: int) -> str:
    """How a program ended: `exited with 3`, `was killed by SIGSEGV`."""
    if code > 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _sent(arguments: list[str], stdin: str | None) -> Message:
    if stdin is not None:
        return {"role": "user", "content": stdin}
    return {"role": "user", "content": " ".join(arguments)}


def _renamed(failure: Failure, messages: tuple[Message, ...]) -> Failure:
    """A failure about a reply, with the word of a program for it."""
    return Failure(
        failure.kind, failure.message.replace("the reply", "stdout", 1), fatal=failure.fatal, messages=messages
    )


MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024  # as of a reply of an HTTP service
MAX_ERROR_BYTES: Final = 64 * 1024  # the last ones are kept
CLOSING_S: Final = 1.0  # for the pipes of a program that has ended
GUARD: Final = """
import os, signal, sys
groups = set()
for line in sys.stdin.buffer:
    (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""
HAS_GROUPS: Final = hasattr(os, "killpg")


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended: its exit code (negative: the signal), its output, and the end of what it wrote to stderr."""

    code: int
    output: bytes
    errors: bytes


class OutputTooLong(Exception):
    """The program wrote more than MAX_OUTPUT_BYTES and was killed."""


class GroupGuard:
    """Kills process groups when this process ends in any way. Started with the first group."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None

    def add(self, group: int) -> None:
        self._send(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        self._send(b"-%d\n" % group)

    def _send(self, line: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):  # without the helper, only a kill of this process leaves groups
            if self._helper is None or self._helper.poll() is not None:
                self._helper = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env={}, start_new_session=True,
                )  # fmt: skip
                atexit.register(self.close)
            assert self._helper.stdin is not None  # a pipe
            self._helper.stdin.write(line)
            self._helper.stdin.flush()

    def close(self) -> None:
        """End the helper, which kills the groups that are left."""
        with self._lock:
            helper, self._helper = self._helper, None
            if helper is not None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    helper.communicate(timeout=CLOSING_S)


guard = GroupGuard()


class ProgramProtocol(asyncio.SubprocessProtocol):
    """Collects the output of a program."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.output, self.errors = bytearray(), bytearray()
        self.too_long = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.errors += data
            del self.errors[:-MAX_ERROR_BYTES]
        elif len(self.output) + len(data) <= MAX_OUTPUT_BYTES:
            self.output += data
        elif not self.too_long:
            self.too_long = True
            _finish(self.exited)

    def process_exited(self) -> None:
        _finish(self.exited)

    def connection_lost(self, exc: Exception | None) -> None:
        _finish(self.exited)
        _finish(self.closed)


async def run_program(
    arguments: Sequence[str], stdin: bytes | None, *, folder: Path, environ: Mapping[str, str], timeout_s: float
) -> Ended:
    """The ended program. Raises TimeoutError, OutputTooLong, or OSError if it cannot be started."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        ProgramProtocol, *arguments, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=dict(environ), start_new_session=HAS_GROUPS,
    )  # fmt: skip
    group = transport.get_pid()
    if HAS_GROUPS:
        guard.add(group)
    try:
        if stdin is not None:
            pipe: Any = transport.get_pipe_transport(0)
            pipe.write(stdin)
            pipe.write_eof()
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(protocol.exited)
    finally:
        _kill(transport, group)
        await asyncio.wait({protocol.closed}, timeout=CLOSING_S)
        transport.close()
        if HAS_GROUPS:
            guard.remove(group)
    if protocol.too_long:
        raise OutputTooLong
    return Ended(transport.get_returncode() or 0, bytes(protocol.output), bytes(protocol.errors))


def _kill(transport: asyncio.SubprocessTransport, group: int) -> None:
    """Kill the program, and what it has started and not ended."""
    with contextlib.suppress(OSError):  # all of them have ended
        if HAS_GROUPS:
            os.killpg(group, signal.SIGKILL)
        else:
            transport.kill()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
