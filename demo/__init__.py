"""The Gradio Space; `python -m demo.deploy` puts it on the Hub."""
