"""Where the model that comes with the package lies."""

from pathlib import Path


def bundled_model() -> Path:
    """The folder of the model that comes with the package, in the diffusers layout."""
    return Path(__file__).parent / "bundled"
