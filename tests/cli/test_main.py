"""The dispatcher: cheap to import, verbs by name, one message and an exit code for what goes wrong."""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from hf_asr import cli
from hf_asr.cli import VERBS, main
from hf_asr.errors import UserError


def use(monkeypatch: pytest.MonkeyPatch, verb: str, run: Callable[[argparse.Namespace], int]) -> None:
    """Put a verb's module aside and a small one in its place."""
    module = ModuleType(f"hf_asr.cli.{cli.module_of(verb)}", "Do one thing.")
    module.EXAMPLE = f"hf-asr {verb} --config x.yaml a.b=1"  # type: ignore[attr-defined]
    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"hf_asr.cli.{cli.module_of(verb)}", module)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="YAML")
    parser.add_argument("--output-dir", metavar="DIR")
    parser.add_argument("overrides", nargs="*", metavar="key=value")


def raiser(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        raise error

    return run


def test_the_verbs_of_the_command() -> None:
    words = "demo doctor evaluate compare score transcribe recipes export profile push report inspect prepare-shards"
    assert set(VERBS) == set(words.split())


@pytest.mark.parametrize("code", [0, 1])
def test_a_verbs_code_is_the_commands(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "demo", lambda options: code)
    assert main(["demo"]) == code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("expected a run, found none"), 2, "hf-asr demo: expected a run, found none"),
        (KeyboardInterrupt(), 130, "hf-asr demo: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 2, "found none left while writing x.bin"),
    ],
)
def test_what_goes_wrong_is_one_message_and_a_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, "demo", raiser(error))
    assert main(["demo"]) == code
    told = capsys.readouterr()
    assert words in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


@pytest.mark.parametrize("error", [ValueError("our bug"), OSError(errno.EBADF, "Bad file descriptor")])
def test_our_own_bugs_are_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "demo", raiser(error))
    with pytest.raises(type(error)):
        main(["demo"])


@pytest.mark.parametrize("verb", sorted(cli.WITH_OVERRIDES))
def test_overrides_stand_anywhere_between_options(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    use(monkeypatch, verb, lambda options: seen.append(options) or 0)  # type: ignore[func-returns-value]
    assert main([verb, "a.b=1", "--config", "x.yaml", "c.d=2", "--output-dir", "out", "e.f=3"]) == 0
    assert seen[0].overrides == ["a.b=1", "c.d=2", "e.f=3"]
    assert (seen[0].config, seen[0].output_dir) == ("x.yaml", "out")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "required: VERB"),
        (["scroe"], "found 'scroe'; did you mean score?"),
        (["demo", "--outputdir", "x"], "unrecognized arguments: --outputdir"),
        (["demo", "--output", "x"], "unrecognized arguments: --output"),
    ],
)
def test_a_wrong_command_line_is_told(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "demo", lambda options: 0)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for verb, line in VERBS.items():
        assert f"{verb} " in shown
        assert line in shown


def test_a_verbs_help_shows_what_it_does_and_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "demo", lambda options: 0)
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    shown = capsys.readouterr().out
    assert "Do one thing." in shown
    assert "example:\n  hf-asr demo --config x.yaml a.b=1" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"hf-asr {importlib.metadata.version('hf_asr')}\n"


def test_importing_the_command_is_cheap() -> None:
    heavy = "{'numpy', 'torch', 'transformers', 'datasets', 'evaluate', 'jiwer', 'rich', 'omegaconf', 'yaml'}"
    code = f"import sys, hf_asr.__main__; assert not {heavy} & set(sys.modules), sorted({heavy} & set(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_python_dash_m_runs_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hf_asr", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected one of demo, doctor" in done.stderr


def test_a_reader_that_went_away_is_no_error() -> None:
    code = (
        "import sys, types, hf_asr.cli as cli\n"
        "module = types.ModuleType('hf_asr.cli.demo', 'Print.')\n"
        "module.EXAMPLE, module.add_arguments = '', lambda parser: None\n"
        "module.run = lambda options: print('line\\n' * 100000) or 0\n"
        "sys.modules['hf_asr.cli.demo'] = module\n"
        "sys.exit(cli.main(['demo']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
