"""The demo page. `python -m demo.app` runs it locally, and `python -m demo.deploy` uploads it as a Gradio Space."""
