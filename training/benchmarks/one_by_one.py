"""A baseline for the server benchmark: call the pipeline with one text at a time.

The process reads commands as JSON lines. Its answer to a command is the time of each text in seconds.

    python -m training.benchmarks.one_by_one MODEL THREADS

`training.benchmarks.serving` starts this process with the environment of the servers.
"""

import json
import sys

from .servers import keep_busy


def main() -> None:
    import torch
    from transformers import pipeline

    import modeling_binder  # noqa: F401 (registers the pipeline)

    torch.set_num_threads(int(sys.argv[2]))
    pipe = pipeline("binder-ner", model=sys.argv[1], device="cpu")
    for line in sys.stdin:
        command = json.loads(line)
        for seconds in (command["seconds"] / 4, command["seconds"]):  # the first run is a warm-up
            times = keep_busy([lambda request: pipe(request[0], entity_types=request[1])], command["requests"], seconds)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
