"""The README.md of a Gradio Space: the front matter from which the Hub builds it."""

from huggingface_hub import SpaceCard, SpaceCardData

from .markdown import environment


def space_card(
    repo_id: str, model_id: str, gradio_version: str, license: str | None = None, python_version: str = "3.12"
) -> SpaceCard:
    """The card of a Space that shows a model.

    Args:
        repo_id: "user/name" of the Space.
        model_id: "user/name" of the model that it shows.
        gradio_version: the version that the Hub installs.
        license: of the Space; left out where nothing was said.
        python_version: that the Hub runs it with.
    """
    data = SpaceCardData(
        title=f"{model_id.split('/')[-1]}: find entities",
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=python_version,
        app_file="app.py",
        license=license or None,
        models=[model_id],
        tags=["binder", "named-entity-recognition", "nested-ner"],
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
