"""What other programs say, in their pictures, that a picture was made from: read, and put in Sfumato's words."""

from sfumato.metadata.reading import find_settings, read_settings
from sfumato.metadata.settings import NamedLora, Omission, Program, Settings

__all__ = ["NamedLora", "Omission", "Program", "Settings", "find_settings", "read_settings"]
