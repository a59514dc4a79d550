"""The options of `sfumato generate`, each as the annotation of a parameter; other commands that draw take them too."""
