"""The bench: Sfumato beside its peers on one machine, in one run. `python -m bench --help`, or `make bench`.

A measure (`measures.py`) is one question, such as how long a step takes. Contenders (`contenders.py`) answer it, each in a fresh process
(`processes.py`) of its own environment (`environments.py`), which runs one of the files in `peers/`. They take turns (`turns.py`), what
they said is kept (`results.py`), neighbours are compared (`comparing.py`), held against the bars (`bars.py`), and written up
(`tables.py`, `plot.py`, `document.py`).
"""
