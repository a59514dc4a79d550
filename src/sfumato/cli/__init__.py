"""The command `sfumato`.

Importing this imports no torch: each command brings in what it needs when it is run, so that `--help` answers at once.
"""

from sfumato.cli.app import main as main
