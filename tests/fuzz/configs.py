"""Opens a model folder with each value of its configs replaced in turn, or with more beside it, while an audit hook watches.

`python configs.py FOLDER` prints, as JSON, how the openings ended and what else happened. The folder is a copy that may be written to.
"""

import json
import logging
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from watch import HARMLESS, Watch

from sfumato.checkpoints import open_folder
from sfumato.checkpoints.folder import NETWORKS
from sfumato.errors import SfumatoError
from sfumato.schedulers import scheduler_from_config
from sfumato.text import Tokenizer

# A module that says so if it is ever imported, put wherever diffusers or transformers would look for code of a model's own.
EVIL = "open('pwned', 'w').close()\nclass Evil: ...\n"
MODULES = ("pipeline.py", "evil.py", "unet/evil.py", "scheduler/evil.py", "text_encoder/modeling_evil.py")
ADDRESS = "http://127.0.0.1:9/x"
VALUES: tuple[Any, ...] = (
    "os.system", "evil.Evil", "torch.nn.Module", "__import__('os').system('touch pwned')", "${oc.env:HOME}", "{{7*7}}",
    ADDRESS, "file:///etc/passwd", "../../../etc/passwd", "/etc/passwd", "hf://a/b", "", "\x1b[2J\n", "x" * 100_000,
    ["os", "system"], ["evil", "Evil"], ["diffusers", "UNet2DConditionModel"], {"_class_name": "evil.Evil", "_target_": "os.system"},
    {"__reduce__": ["os.system", ["touch pwned"]]}, 0, -1, 1, 3, 1 << 31, 1 << 63, 10**400, 0.5, float("nan"), float("inf"), True, False, None,
    [], {}, [[]], [1, 2, 3], [1 << 40] * 8, [0, 0], ["CrossAttnDownBlock2D"] * 9, json.loads("[" * 500 + "]" * 500),
)  # fmt: skip
# What makes other readers run or fetch something, or once did.
BESIDE: tuple[tuple[str, Any], ...] = (
    ("auto_map", {"AutoModel": "evil.Evil", "AutoConfig": "a/b--evil.Evil"}),
    ("custom_pipeline", "evil"),
    ("trust_remote_code", True),
    ("_target_", "os.system"),
    ("_name_or_path", ADDRESS),
    ("__class__", "evil.Evil"),
    ("_diffusers_version", ["os", "system"]),
    ("quantization_config", {"quant_method": "evil.Evil"}),
    ("_use_default_values", ["a"]),
    ("torch_dtype", "__import__('os')"),
    ("tokenizer_file", ADDRESS),
    ("special_tokens_map_file", "/etc/passwd"),
    ("vocab_file", "/etc/passwd"),
    ("chat_template", "{{ ''.__class__.__mro__ }}"),
    ("\x1b[2J\nx", 1),
    ("evil", ["evil", "Evil"]),
    ("unet", ["evil", "UNet2DConditionModel"]),
    ("text_encoder", [ADDRESS, "CLIPTextModel"]),
)


class FolderWatch(Watch):
    """Looking about in the folder, and reading its files, is what opening it is."""

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        inside = bool(arguments) and str(arguments[0]).startswith(str(self._file))
        if inside and (
            event in ("os.listdir", "os.scandir") or (event == "open" and arguments[1] in ("r", "rb", None))
        ):
            return
        # What a network's tensors are told apart by.
        if event in ("glob.glob", "builtins.id") or event in HARMLESS:
            return
        super()._hook(event, arguments)


def opened(folder: Path, part: str | None = None) -> None:
    """All that is read of a model's configs; of its networks and its tokenizer, where a part is named, only that."""
    model = open_folder(folder, components=[name for name in NETWORKS if part in (name, None)])
    scheduler_from_config(model.scheduler_config)
    if part in ("tokenizer", None):
        Tokenizer.from_folder(folder / "tokenizer")


def main() -> None:
    """Open the folder again and again."""
    folder = Path(sys.argv[1])
    for name in MODULES:
        (folder / name).write_text(EVIL)
    (folder / "evil").mkdir()
    opened(folder)  # what is imported at first use is not a config's doing
    logging.disable()
    watch, outcomes, findings = FolderWatch(), Counter[str](), list[str]()

    def attempt(what: str, part: str) -> None:
        try:
            with watch.over(folder):
                opened(folder, part)
            outcomes["opened"] += 1
        except SfumatoError as error:
            outcomes[type(error).__name__] += 1
            if "\n" in str(error) or not str(error).isprintable():
                findings.append(f"{what}: says it badly: {str(error)[:200]!r}")
        except Exception as error:
            findings.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        if watch.events:
            findings.append(f"{what}: {watch.events}")

    draw = random.Random(0)
    tried = int(sys.argv[2]) if len(sys.argv) > 2 else len(VALUES)
    for path in sorted(folder.rglob("*.json")):
        if path.name == "vocab.json":
            continue
        text = path.read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text)
        changes = [(key, value) for key in values for value in draw.sample(VALUES, min(tried, len(VALUES)))]
        for key, value in (*changes, *BESIDE):
            path.write_text(json.dumps({**values, key: value}), encoding="utf-8")
            attempt(f"{path.relative_to(folder)}: {key} = {str(value)[:60]!r}", path.parent.name)
        path.write_text(text, encoding="utf-8")
    opened(folder)
    print(json.dumps({"outcomes": outcomes, "findings": findings, "total": outcomes.total() + len(findings)}))


if __name__ == "__main__":
    main()
