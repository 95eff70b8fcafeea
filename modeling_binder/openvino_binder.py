"""An encoder that runs in OpenVINO in place of a transformers encoder."""

import threading
from typing import Any

import torch

from .exported_binder import ExportedEncoder


class OpenVinoEncoder(ExportedEncoder):
    """Runs `NAME.xml` with the weights in `NAME.bin` in OpenVINO, on the CPU; see `ExportedEncoder`."""

    backend = "openvino"
    suffixes = (".xml", ".bin")
    starts_after_fork = False  # it would wait forever for the threads of the parent process

    def start(self, paths: list[str]) -> Any:
        """Return an inference request of OpenVINO, and a lock for it.

        Raises:
            ImportError: OpenVINO is not installed.
        """
        try:
            import openvino
        except ImportError:
            raise ImportError(
                "the encoders of this checkpoint are OpenVINO files and need OpenVINO: pip install openvino"
            ) from None
        core = openvino.Core()
        model = core.read_model(*paths)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Otherwise all processes with one thread would run on the same core.
            "ENABLE_CPU_PINNING": False,
        }
        if not any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops()):
            # By default, OpenVINO computes float32 models in bfloat16 on processors with bfloat16 instructions.
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        return core.compile_model(model, "CPU", settings).create_infer_request(), threading.Lock()

    def run(self, session: Any, inputs: dict[str, Any]) -> Any:
        """See `ExportedEncoder.run`."""
        request, lock = session
        with lock:  # a request computes one batch at a time, and raises an error if another thread uses it meanwhile
            return request.infer(inputs, share_inputs=True)["last_hidden_state"]
