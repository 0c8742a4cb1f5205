"""What a user of the recipes and verbs sees: exit code, stdout, stderr."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_asr.cli import main as verb
from hf_asr.cli.outcome import run_recipe

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = ("cached", "live", "streamed", "prepare", "evaluate", "doctor")
MODES: dict[str, list[str]] = {"cached": [], "live": ["features.cache=false"], "streamed": ["data.streaming=true"]}


@dataclass(frozen=True)
class Outcome:
    """What one call left behind.

    Attributes:
        code: Exit code.
        out: Stdout.
        err: Stderr.
    """

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return ([line for line in self.err.splitlines() if line.strip()] or [""])[-1]

    def assert_refused(self, *words: str) -> None:
        """See one message that ends stderr and holds ``words``, exit code 2, and no traceback."""
        assert self.code == 2, self.err[-2000:]
        assert "Traceback" not in self.err
        missing = [word for word in words if word not in self.last]
        assert not missing, self.last

    def assert_done(self) -> None:
        """See exit code 0 and no traceback."""
        assert self.code == 0, self.err[-2000:]
        assert "Traceback" not in self.err


def recipe_main(name: str) -> Callable[[Sequence[str]], None]:
    """Return ``main`` of a recipe."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[Sequence[str]], None] = module.main
    return main


class Attack:
    """Runs recipes and verbs as a shell would, and catches what they print."""

    def recipe(self, name: str, *words: object) -> Outcome:
        """Run recipes/NAME.py with these words behind ``--config``."""
        return self._caught(run_recipe, recipe_main(name), ["--config", *map(str, words)])

    def finetune(self, *words: object) -> Outcome:
        """Run recipes/finetune_seq2seq.py with these words behind ``--config``."""
        return self.recipe("finetune_seq2seq", *words)

    def prepare(self, *words: object) -> Outcome:
        """Run recipes/prepare_features.py with these words behind ``--config``."""
        return self.recipe("prepare_features", *words)

    def verb(self, *words: object) -> Outcome:
        """Run ``hf-asr``."""
        return self._caught(verb, [str(word) for word in words])

    def enter(self, entry: str, yaml: Path, model: Path, *words: object) -> Outcome:
        """Go in by one of ENTRIES; a recipe trains one step without a baseline."""
        if entry in MODES:
            quick = ["training.max_steps=1", "evaluation.baseline=false", f"experiment.name={entry}"]
            return self.finetune(yaml, *quick, *MODES[entry], *words)
        if entry == "prepare":
            return self.prepare(yaml, *words)
        if entry == "doctor":
            return self.verb("doctor", "--config", yaml, *words)
        folder = yaml.parent / "scored"
        return self.verb("evaluate", "--model", model, "--config", yaml, "--output-dir", folder, *words)

    def _caught(self, call: Callable[..., int], *arguments: Any) -> Outcome:
        logging.getLogger("hf_asr").handlers.clear()  # an earlier recipe's write to a stderr that is closed by now
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = call(*arguments)
        return Outcome(code, out.getvalue(), err.getvalue())


def results_of(folder: Path) -> dict[str, Any]:
    """Return a folder's test_results.json."""
    results: dict[str, Any] = json.loads((folder / "test_results.json").read_text())
    return results


def sample_ids(run: Path) -> list[str]:
    """Return the ids of all clips that a run was trained on, in their order."""
    lines = (run / "sample_ids.jsonl").read_text().splitlines()
    return [id for line in lines for id in json.loads(line)["ids"]]
