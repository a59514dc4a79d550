"""Sfumato: Stable Diffusion, built from its parts."""

from sfumato.version import __version__ as __version__
