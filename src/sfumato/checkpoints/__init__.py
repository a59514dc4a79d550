"""Files ⇄ models: key maps, configs, folders, the hub."""

from sfumato.checkpoints.card import Card
from sfumato.checkpoints.folder import open_folder
from sfumato.checkpoints.folder_saving import clip_preprocessing, save_folder
from sfumato.checkpoints.hub import fetch
from sfumato.checkpoints.model import LoadedModel, WeightFiles

__all__ = ["Card", "LoadedModel", "WeightFiles", "clip_preprocessing", "fetch", "open_folder", "save_folder"]
