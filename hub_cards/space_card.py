"""Build the README.md of a Gradio Space. The Hub builds the Space from the metadata in this file."""

from collections.abc import Sequence

from huggingface_hub import SpaceCard, SpaceCardData

from .markdown import environment


def space_card(
    repo_id: str,
    model_id: str,
    gradio_version: str,
    license: str | None = None,
    python_version: str = "3.12",
    datasets: Sequence[str] = (),
) -> SpaceCard:
    """Return the README.md of a Space that runs the demo page with a model.

    Args:
        repo_id: "user/name" of the Space.
        model_id: "user/name" of the model.
        gradio_version: version of Gradio that the Hub installs.
        license: licence of the Space; omitted from the card if None.
        python_version: version of Python that the Hub installs.
        datasets: ids of the datasets on which the model was trained.
    """
    data = SpaceCardData(
        title=f"{model_id.split('/')[-1]}: find entities",
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=python_version,
        app_file="app.py",
        license=license or None,
        models=[model_id],
        datasets=list(datasets) or None,
        tags=["binder", "named-entity-recognition", "nested-ner", "zero-shot-ner"],
        emoji="\U0001f50e",
        colorFrom="blue",
        colorTo="green",
        short_description="Nested named entities, of types you describe",
    )
    page = (
        environment()
        .get_template("space_card.md")
        .render(metadata=data.to_yaml().strip(), repo_id=repo_id, model_id=model_id)
    )
    return SpaceCard(page)
