"""PyTorch alone: what its import takes."""

from bench.worker import Figures, Setting, imported, serve


def import_torch(_: Setting) -> Figures:
    """`import torch`."""

    def work() -> None:
        import torch  # noqa: F401

    return imported(work)


if __name__ == "__main__":
    serve({"import": import_torch})
