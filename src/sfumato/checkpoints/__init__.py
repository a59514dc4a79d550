"""Files ⇄ models: key maps, configs, folders, the hub."""

from sfumato.checkpoints.card import Card
from sfumato.checkpoints.folder import LoadedFolder, WeightFiles, clip_preprocessing, open_folder, save_folder
from sfumato.checkpoints.hub import fetch

__all__ = ["Card", "LoadedFolder", "WeightFiles", "clip_preprocessing", "fetch", "open_folder", "save_folder"]
