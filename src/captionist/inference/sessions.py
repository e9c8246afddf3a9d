"""ONNX Runtime sessions: how they share this process's cores, and how they are run."""

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from captionist.errors import BundleError

_CPU = "CPUExecutionProvider"


def session_options(threads: int, spinning: bool = True) -> ort.SessionOptions:
    """Options for a session that computes on that many threads, including the calling one.

    spinning: whether they stay awake while they wait for each other within a run. That is faster if a graph takes
    long. In a small one, a spinning thread slows down one that is still waking up, and two are slower than one.

    Between runs no thread spins, though by default it would: each session has its own pool, a captioner's sessions run
    in turn, and one would take the next one's core. (If sessions shared a pool, the surrounding program could have no
    other sessions.)
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; the warnings are about graph optimisation
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Keeping buffers for the next run would take twice the memory and save no time.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return options


def known_providers(names: Sequence[str]) -> list[str]:
    """ONNX Runtime's execution providers by name, such as cuda, openvino, coreml or directml; the CPU's comes last.

    Raises ValueError for one that ONNX Runtime does not know, or that the installed build lacks.
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
    """All outputs of the graph with that name, in order. Raises BundleError if it fails."""
    try:
        return list(session.run(None, feeds))
    except Exception as error:  # ONNX Runtime has an exception class per status, without a common base
        raise BundleError(
            f"{graph} failed ({one_line(error)}): check the model with `captionist model verify`, or export the model "
            "again"
        ) from error


def one_line(error: Exception) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())
