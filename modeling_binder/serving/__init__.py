"""Serve a checkpoint over HTTP, on one machine (uvicorn) or on a Ray cluster (`binder-ner serve`).

`requests` reads and checks requests, `batching` joins waiting requests into passes of the model, `app` has the routes,
`metrics` counts, `model` loads and runs the pipeline. `server` runs the app under uvicorn and `ray_serve` under Ray
Serve.
"""
