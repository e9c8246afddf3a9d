"""The sessions of ONNX Runtime: how they share this process's cores, and how they are run."""

from collections.abc import Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from captionist.errors import BundleError

_CPU = "CPUExecutionProvider"


def session_options(threads: int, spinning: bool = True) -> ort.SessionOptions:
    """Options for a session that computes on that many threads, including the calling one.

    spinning: whether they wait for each other within a run without falling asleep. That is faster where a graph takes
    long; in a small one, a thread that spins slows down one that has yet to wake up, and two are slower than one.
    Between runs no thread spins, as it would by default: each session has its own pool, a captioner's run in turn, and
    it would take the core of the next one. (With the pool that sessions could share, the surrounding program could have
    no other sessions.)
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; the warnings are about graph optimisation
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # What ONNX Runtime would keep for the next run takes twice the memory and saves no time.
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
    except Exception as error:  # ONNX Runtime has an exception class per status, without a common base
        raise BundleError(
            f"{graph} failed ({one_line(error)}): check the model with `captionist model verify`, or export the model "
            "again"
        ) from error


def one_line(error: Exception) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())
