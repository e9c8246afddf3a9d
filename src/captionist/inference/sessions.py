"""The sessions of ONNX Runtime: how they share this process's cores, and how they are run."""

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from captionist.errors import BundleError

_CPU = "CPUExecutionProvider"


def session_options(threads: int) -> ort.SessionOptions:
    """Options for a session that computes on that many threads, the calling one counted.

    Each session has a pool of its own, and a captioner's three run in turns: if the threads of one went on spinning for
    work on the cores that the next one needs, which is ONNX Runtime's way, two cores would be slower than one. (The
    pool that sessions could share would keep the program around us from having sessions of another kind.)
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and the warnings are about graph optimisation
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # What ONNX Runtime would keep for the next run costs twice the memory, and time is no better for it.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return options


def known_providers(names: Sequence[str]) -> list[str]:
    """ONNX Runtime's execution providers by name, such as cuda, openvino, coreml or directml, the CPU's last.

    Raises ValueError for one that ONNX Runtime does not know, or that the installed one was not built with.
    """
    known = {name.removesuffix("ExecutionProvider").lower(): name for name in ort.get_all_providers()}
    known["directml"] = known.pop("dml")
    here = {short: name for short, name in known.items() if name in ort.get_available_providers()}
    found = []
    for name in names:
        short = name.removesuffix("ExecutionProvider").lower()
        if short not in known:
            raise ValueError(f"unknown provider {name!r}: known are {', '.join(sorted(known))}")
        if short not in here:
            raise ValueError(
                f"the installed ONNX Runtime has no provider {short}, only {', '.join(sorted(here))}: install "
                "its package that has it (such as onnxruntime-gpu or onnxruntime-openvino) in place of onnxruntime"
            )
        found.append(here[short])
    return [*(name for name in found if name != _CPU), _CPU]


def run(session: ort.InferenceSession, graph: str, feeds: dict[str, NDArray[Any]]) -> list[Any]:
    """All outputs of the graph of that name, in their order. Raises BundleError if it fails."""
    try:
        return list(session.run(None, feeds))
    except Exception as error:  # ONNX Runtime has an exception class for each status, with no base of their own
        raise BundleError(
            f"{graph} failed ({one_line(error)}): check the model with `captionist model verify`, or export the model "
            "again"
        ) from error


def one_line(error: Exception) -> str:
    """What the error says, without its line breaks."""
    return " ".join(str(error).split())
