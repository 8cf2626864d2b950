"""Six sets, for a first look."""

from texts_lib.parameters import LINEAR, Model, grid


def get_params() -> list[Model]:
    """Each kind of model on little and on more data."""
    return grid(("bayes", *LINEAR), n_words=(1,), strengths=(1.0,), sizes=(100, 800))
