"""What the verb asks of a format: which models it takes, how they are written, and what runs them."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_asr.errors import UserError
from hf_asr.export.source import Source


@dataclass(frozen=True)
class Format:
    """One way of writing a model.

    Attributes:
        name: Value of ``--format``.
        quantizations: Values of ``--quantization``, the default first.
        packages: What has to be installed, all in the extra ``export``.
        runtime: Package that runs what was written.
        check: (family's name, model type) raises UserError for models that the format cannot serve.
        write: (stock model, source, folder, quantization) fills the folder.
        open: (folder, source) -> what stands in for the model in the family's ``decode``.
        computed: What :attr:`open` returned -> the type of numbers that it computes in on this machine.
        check_decoding: (options) raises UserError for decoding that the runtime cannot do.
        greedy: Whether the runtime writes greedily only: the original is then decoded so as well.
    """

    name: str
    quantizations: tuple[str, ...]
    packages: tuple[str, ...]
    runtime: str
    check: Callable[[str, str], None]
    write: Callable[[PreTrainedModel, Source, Path, str], None]
    open: Callable[[Path, Source], Any]
    computed: Callable[[Any], str]
    check_decoding: Callable[[dict[str, Any]], None]
    greedy: bool = False

    def require(self) -> None:
        """See that the packages are installed.

        Raises:
            UserError: One is not.
        """
        missing = [name for name in self.packages if not _imports(name)]
        if missing:
            raise UserError(
                f"--format {self.name}: expected the packages {', '.join(self.packages)}, found that "
                f"{', '.join(missing)} cannot be imported. pip install 'hf_asr[export]'"
            )

    def chosen(self, quantization: str | None) -> str:
        """Return what numbers are stored in.

        Raises:
            UserError: The format has no such numbers.
        """
        if quantization is None:
            return self.quantizations[0]
        if quantization not in self.quantizations:
            raise UserError(
                f"--quantization: expected one of {', '.join(self.quantizations)} with --format {self.name}, found "
                f"{quantization}. Choose one of these, or another format."
            )
        return quantization

    def version(self) -> str:
        """Return the runtime's name and version."""
        return f"{self.runtime} {importlib.metadata.version(self.runtime)}"


def not_served(name: str, family: str, served: str, instead: str) -> UserError:
    """Return what to tell of a model that a format cannot hold."""
    return UserError(f"--format {name}: expected {served}, found a {family} model. {instead}")


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
