"""The demo page, also as a Gradio Space: `python -m demo.deploy` puts it on the Hub."""
