"""The switches that are compared: attention, cache, quantisation, compilation, precision, other runtimes."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_asr.profiling.runners import Runner, TorchRunner
from hf_asr.profiling.subject import Subject

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Variant:
    """A way to run a model.

    Attributes:
        about: What it is, in a few words.
        make: (subject, device, dtype) -> runner; None for a runtime that the verb hands in.
        refuse: (subject, device) -> why it cannot be had; empty when it can.
        dtype: The dtype it stands for; None takes the one asked for.
    """

    about: str
    make: Callable[[Subject, torch.device, torch.dtype], Runner] | None
    refuse: Callable[[Subject, torch.device], str]
    dtype: str | None = None


class NotAvailable(ValueError):
    """A variant that this model, device or machine does not have; the text says why."""


def make_runner(
    variant: str,
    subject: Subject,
    device: torch.device,
    dtype: str,
    others: Mapping[str, Callable[[Subject, torch.device], Runner]] | None = None,
) -> Runner:
    """Load a model and prepare it.

    Args:
        variant: A key of :data:`VARIANTS`.
        subject: The model.
        device: Where it runs.
        dtype: A key of :data:`DTYPES`.
        others: Runtimes that stand right of this part of the package, by variant, from the verb.

    Raises:
        NotAvailable: It cannot be had here.
    """
    known = VARIANTS[variant]
    reason = known.refuse(subject, device)
    if reason:
        raise NotAvailable(reason)
    if known.make is not None:
        return known.make(subject, device, DTYPES[known.dtype or dtype])
    if variant not in (others or {}):
        raise NotAvailable(f"{variant} is not installed, or this model cannot be exported to it")
    return (others or {})[variant](subject, device)


def _plain(attention: str) -> Callable[[Subject, torch.device, torch.dtype], Runner]:
    return _Plain(attention)


@dataclass(frozen=True)
class _Plain:
    attention: str = "sdpa"
    window: str = "full"
    static_cache: bool = False

    def __call__(self, subject: Subject, device: torch.device, dtype: torch.dtype) -> TorchRunner:
        model = subject.load(self.attention, self.window).to(device=device, dtype=dtype)
        return TorchRunner(subject, model, self.window, self.static_cache)


def _int8(subject: Subject, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    if device.type == "cuda":
        return TorchRunner(subject, subject.load(quantization="8bit").to(device))
    with warnings.catch_warnings():
        # Announced to be removed, still there in every torch that this package allows (below 2.15).
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(subject.load(), {nn.Linear}, dtype=torch.qint8)
    return TorchRunner(subject, quantised)


def _compiled(subject: Subject, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    model = subject.load().to(device=device, dtype=dtype)
    encoder = model.get_encoder() if subject.has_decoder else model
    return TorchRunner(subject, model, encode=torch.compile(encoder, dynamic=False))


def _graphs(subject: Subject, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    model = subject.load().to(device=device, dtype=dtype)
    encoder = model.get_encoder() if subject.has_decoder else model
    # "reduce-overhead" is torch's own use of CUDA graphs.
    compiled = torch.compile(encoder, mode="reduce-overhead", dynamic=False)
    return TorchRunner(subject, model, encode=_Cloned(compiled))


@dataclass
class _Cloned:
    """Keeps what a CUDA graph returned: its next replay writes over it."""

    module: Any

    def __call__(self, **inputs: torch.Tensor) -> Any:
        outputs = self.module(**inputs)
        for name, value in outputs.items():
            if isinstance(value, torch.Tensor):
                outputs[name] = value.clone()
        return outputs


def _fp16_encoder(subject: Subject, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    model = subject.load().to(device)
    encoder = model.get_encoder()
    encoder.half()
    encoder.register_forward_hook(_to_float32)
    return TorchRunner(subject, model)


def _to_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    outputs.last_hidden_state = outputs.last_hidden_state.float()
    return outputs


def _always(subject: Subject, device: torch.device) -> str:
    return ""


def _needs_sdpa(subject: Subject, device: torch.device) -> str:
    return "" if subject.attention("sdpa") == "sdpa" else f"{subject.architecture().__name__} has no SDPA attention"


def _needs_decoder(subject: Subject, device: torch.device) -> str:
    return "" if subject.has_decoder else f"a {subject.family.name} model has no decoder"


def _needs_whisper(subject: Subject, device: torch.device) -> str:
    return "" if subject.family.name == "whisper" else f"only for Whisper, not for a {subject.family.name} model"


def _needs_gpu(subject: Subject, device: torch.device) -> str:
    return "" if device.type == "cuda" else "CUDA graphs need a CUDA device"


def _needs_compiler(subject: Subject, device: torch.device) -> str:
    found = device.type == "cuda" or shutil.which("g++") or shutil.which("clang++")
    return "" if found else "torch.compile on a CPU needs a C++ compiler, found neither g++ nor clang++"


def _needs_engine(subject: Subject, device: torch.device) -> str:
    supported = torch.backends.quantized.supported_engines
    if device.type == "cuda" or [name for name in supported if name != "none"]:
        return ""
    return "this build of torch has no engine for int8 on a CPU"


def _needs_faster_whisper(subject: Subject, device: torch.device) -> str:
    if importlib.util.find_spec("faster_whisper") is None:
        return "faster-whisper is not installed"
    return _needs_whisper(subject, device)


VARIANTS: Mapping[str, Variant] = {
    "sdpa": Variant("torch's fused attention", _Plain(), _always),
    "eager": Variant("attention step by step", _Plain("eager"), _always),
    "static_cache": Variant("keys and values in tensors of fixed size", _Plain(static_cache=True), _needs_whisper),
    "int8": Variant(
        "linear layers in int8: torch's dynamic quantisation on a CPU, bitsandbytes' LLM.int8 on CUDA",
        _int8,
        _needs_engine,
    ),
    "compile": Variant("torch.compile of the encoder", _compiled, _needs_compiler),
    "cuda_graphs": Variant("torch.compile of the encoder into CUDA graphs", _graphs, _needs_gpu),
    "fp16_encoder": Variant("encoder in float16, decoder in float32", _fp16_encoder, _needs_decoder, "float32"),
    "bf16": Variant("weights and arithmetic in bfloat16", _Plain(), _always, "bfloat16"),
    "thinned": Variant("Whisper's window with its silence thinned", _Plain(window="thinned"), _needs_whisper),
    "ctranslate2": Variant("exported to CTranslate2, float32", None, _always, "float32"),
    "onnx": Variant("exported to ONNX, run by onnxruntime", None, _always, "float32"),
    "faster_whisper": Variant("faster-whisper, as installed", None, _needs_faster_whisper),
}
