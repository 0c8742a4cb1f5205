"""A tiny run of the recipe that pushes while it trains, to a stand-in of the Hub that fails now and then.

With ``HF_ASR_PICTURES=docs/pictures`` it writes push_log.txt, what the Hub was asked, and card.png, the card as pushed.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.browser import chromium, open_page
from helpers.hub_stand_in import HubStandIn, hub_stand_in
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

pytestmark = pytest.mark.slow
__all__ = ["chromium"]

TOKEN = "hf_" + "aTokenThatNobodyMaySee"
FAULTS = {"/create": [503], "/preupload/": [0], "^/objects/": [0, 500], "/batch": [429], "/commit/": [409, 0]}
LOOK = """<meta charset="utf-8"><style>
body { font: 16px/1.5 "DejaVu Sans", sans-serif; max-width: 860px; margin: 24px auto; padding: 0 24px }
pre { background: #f4f4f6; padding: 12px; font: 13px/1.4 "DejaVu Sans Mono", monospace; overflow: hidden }
h2 + .front { column-count: 2; font-size: 12px }
code { background: #f4f4f6 } table { border-collapse: collapse } td, th { border: 1px solid #ccc; padding: 4px 10px }
</style>"""


@pytest.fixture(scope="module")
def pushed(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[HubStandIn, str]:
    """The stand-in after the run, and what the run wrote to its log."""
    folder = tmp_path_factory.mktemp("pushed")
    path = tiny_yaml(folder, make_tiny_whisper(folder / "model", d_model=32), make_tiny_corpus(folder / "corpus"))
    sections = json.loads(path.read_text())
    sections["hub"] = {"repo": "org/tiny", "push": True, "push_every": "save", "push_features": True}
    path.write_text(json.dumps(sections))
    with hub_stand_in() as hub:
        hub.faults, hub.headers = {part: list(left) for part, left in FAULTS.items()}, {"Retry-After": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf_home")}
        environment |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(project_root)}
        command = [sys.executable, str(project_root / "recipes/finetune_seq2seq.py"), "--config", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert TOKEN not in done.stdout + done.stderr
    return hub, (folder / "runs" / "tiny" / "training.log").read_text()


def test_everything_arrived_in_spite_of_faults(pushed: tuple[HubStandIn, str]) -> None:
    hub, log = pushed
    assert hub.faults == {part: [] for part in FAULTS}
    assert {"README.md", "model.safetensors", "config.yaml", "test_results.json", "report.html"} <= hub.files.keys()
    assert any(name.startswith("runs/events.out.tfevents") for name in hub.files)
    assert {"README.md", "features.json"} <= hub.datasets["datasets/org/tiny-features"].keys()
    assert any(name.endswith(".parquet") for name in hub.datasets["datasets/org/tiny-features"])
    assert {body["visibility"] for body in hub.created} == {"private"}
    assert hub.tokens <= {f"Bearer {TOKEN}", None}
    assert "pushed the weights of step" in log and f"pushed to {hub.endpoint}/org/tiny" in log
    keep(
        "push_log.txt", "".join(f"{line}\n" for line in hub.log if "/api/" in line or "/lfs" in line or "/obj" in line)
    )


def test_the_card_is_one_that_the_hub_reads(pushed: tuple[HubStandIn, str]) -> None:
    data = ModelCard(pushed[0].files["README.md"].decode()).data
    assert data.eval_results
    assert {result.metric_type for result in data.eval_results} >= {"wer", "cer"}
    assert data.model_name == "tiny" and data.library_name == "transformers"


def test_the_card_as_a_page(pushed: tuple[HubStandIn, str], chromium, tmp_path: Path) -> None:
    _, front, text = pushed[0].files["README.md"].decode().split("---\n", 2)
    metadata = yaml.safe_dump(yaml.safe_load(front), sort_keys=False, allow_unicode=True)
    page_file = tmp_path / "card.html"
    body = MarkdownIt("commonmark").enable("table").render(text)
    page_file.write_text(f"{LOOK}{body}<h2>Metadata</h2><pre class=front>{metadata}</pre>", encoding="utf-8")
    page, seen = open_page(chromium, page_file, width=900)
    assert seen.console == [] and page.locator("table").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 900
    assert "](" not in page.locator("body").inner_text()
    keep("card.png", few_colours(page.screenshot(full_page=True)))


def few_colours(png: bytes) -> bytes:
    """Return a picture with 16 colours: a third of its bytes."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).quantize(16).save(file, "PNG", optimize=True)
    return file.getvalue()


def keep(name: str, content: str | bytes) -> None:
    """Write a file for the documentation, where that is asked for."""
    if folder := os.environ.get("HF_ASR_PICTURES"):
        (Path(folder) / name).write_bytes(content.encode() if isinstance(content, str) else content)
