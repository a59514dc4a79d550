"""Files ⇄ models: key maps, configs, folders, the hub."""
