"""Secrets in what is pushed: found by form or by name, told by file and line, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.finished_run import make_finished_run
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.hub.run_files import list_push_files
from hf_asr.hub.secrets import check_secrets, find_secrets

# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "hf": ("hf_" + "aB3" * 12, "Hugging Face"),
    "openai": ("sk-" + "proj-" + "a1B2" * 8, "OpenAI"),
    "github": ("ghp_" + "a1B2" * 9, "GitHub"),
    "aws": ("AKIA" + "ABCD" * 4, "AWS"),
    "google": ("AIza" + "aB3-x" * 7, "Google"),
    "slack": ("xoxb-" + "1234567890-abcdef", "Slack"),
    "jwt": ("eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3" + "." + "dozjgNryP4J3jVmN", "web token"),
    "key": ("-----BEGIN RSA " + "PRIVATE KEY-----", "private key"),
    "address": ("https://anna:" + "pass123@example.org/data", "password in an address"),
    "named": ('"api_key": "' + "9f8e7d6c5b4a39281706" + '"', "key or password"),
    "env": ("WANDB_API_KEY=" + "0123456789abcdef0123456789abcdef01234567", "key or password"),
    "password": ("password: " + "correct-horse-1-battery", "key or password"),
}
HARMLESS = [
    "",
    '"eos_token": "<|endoftext|>", "eos_token_id": 50257',
    '"unk_token": "a", "additional_special_tokens": ["<|startoftranscript|>"]',
    "tokenizer_class: WhisperTokenizer",
    "https://huggingface.co/openai/whisper-small",
    "sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "the secret of good speech recognition is data",
    "hf_asr 0.1.0, hf_transfer, sk-learn",
    "password: given by the user",
    "--hub_token is never read from a YAML",
]


@pytest.mark.parametrize("name", SECRETS)
def test_it_is_found_and_not_shown(name: str) -> None:
    secret, kind = SECRETS[name]
    (found,) = {(item.line, item.kind) for item in find_secrets(f"first\nx {secret} y\nlast", "a.txt")}
    assert found[0] == 2
    assert kind in found[1]
    assert not any(secret in str(item) for item in find_secrets(secret, "a.txt"))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert list(find_secrets(text)) == []


@given(st.text(max_size=300), st.sampled_from(sorted(SECRETS)), st.text(max_size=300))
def test_it_is_found_wherever_it_stands(before: str, name: str, after: str) -> None:
    lines = f"{before}\n{SECRETS[name][0]}\n{after}"
    assert before.count("\n") + 2 in {item.line for item in find_secrets(lines)}


@pytest.mark.parametrize("place", ["README.md", "test/test_results.json", "config.yaml", "best_checkpoint/config.json"])
def test_a_run_with_one_is_refused_by_file_and_line(tmp_path: Path, place: str) -> None:
    run_dir = make_finished_run(tmp_path / "run")
    file, secret = run_dir / place, SECRETS["hf"][0]
    texts = {
        ".md": f"---\nlanguage: en\n---\nlog in with {secret}\n",
        ".json": f'{{\n"wer": 0,\n\n"note": "{secret}"}}',
        ".yaml": f"a: 1\nb: 2\n\nnote: {secret}\n",
    }
    file.write_text(texts[file.suffix])
    with pytest.raises(UserError, match=r"line 4: a Hugging Face token") as told:
        check_secrets(list_push_files(run_dir, "org/tiny"))
    assert secret not in str(told.value)
    assert file.name in str(told.value)


def test_the_token_of_this_machine_is_found_whatever_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an odd one")
    run_dir = make_finished_run(tmp_path / "run")
    (run_dir / "README.md").write_text("---\nlanguage: en\n---\nsay an odd one\n")
    with pytest.raises(UserError, match="the Hub token of this machine"):
        check_secrets(list_push_files(run_dir))
