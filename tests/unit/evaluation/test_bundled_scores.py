"""The bundled model draws no worse than when its weights came in: a few pictures of the evaluation that set the baseline."""

import pytest

from sfumato import StableDiffusionPipeline, bundled_model
from sfumato.evaluation import Repertoire, evaluate, load_classifier, read_baseline, read_gallery
from sfumato.evaluation.drawing import Drawing

PICTURES = {"trained": 8, "colours": 3, "backgrounds": 3}
pytestmark = pytest.mark.usefixtures("as_shipped")


@pytest.mark.parametrize("kind", PICTURES)
def test_the_bundled_model_is_not_under_its_baseline(kind):
    pipe = StableDiffusionPipeline.from_pretrained(bundled_model(), torch_dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    gallery, baseline = read_gallery(), read_baseline()
    assert baseline is not None
    known = Repertoire(gallery.entries).of_model(pipe.card.styles or None, pipe.card.vocabulary or None)
    found = evaluate(
        Drawing(pipe), gallery, load_classifier(), known, count=PICTURES[kind], seed=baseline.seed, kinds=(kind,)
    )
    baseline.check(found)
