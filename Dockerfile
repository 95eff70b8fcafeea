# An image with the server `binder-ner serve`, for CPUs. docs/at-scale.md shows how to build and run it.
#
#   docker build --build-arg TORCH_INDEX=ADDRESS --tag binder-ner .    # ADDRESS: the index of PyTorch's wheels for CPUs
#   docker run --rm --publish 8000:8000 --volume "$PWD/demo/model:/model:ro" binder-ner
#
# With --build-arg MODEL=user/name, the image contains a model from the Hub and needs no volume.
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# The default index has wheels with CUDA, which are several GB larger than the wheels for CPUs.
ARG TORCH_INDEX=""
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY modeling_binder modeling_binder
COPY hub_cards hub_cards
RUN pip install --constraint constraints.txt ".[serve]"
ARG MODEL=""
RUN mkdir /model && if [ -n "$MODEL" ]; then \
    python -c "import sys; from huggingface_hub import snapshot_download; snapshot_download(sys.argv[1], local_dir='/model')" "$MODEL"; \
    fi

FROM python:3.12.12-slim-bookworm
RUN useradd --create-home --uid 10001 binder
COPY --from=build /venv /venv
COPY --from=build /model /model
ENV PATH=/venv/bin:$PATH HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/binder
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Arguments after the name of the image are options of the server: `docker run ... binder-ner --threads 4`.
ENTRYPOINT ["binder-ner", "serve", "/model", "--host", "0.0.0.0"]
