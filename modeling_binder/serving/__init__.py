"""Serve a checkpoint over HTTP, on one machine (uvicorn) or on a Ray cluster (`binder-ner serve`).

The modules:

- `requests` reads and checks requests.
- `batching` collects waiting requests, so that one call of the pipeline answers several requests.
- `model` loads and calls the pipeline.
- `app` has the HTTP routes. `server` runs the app with uvicorn, and `ray_serve` runs it with Ray Serve.
- `metrics` has the counters for Prometheus.
"""
