"""The same model behind LitServe with batching, for comparison; needs its own environment:

python3 -m venv /tmp/litserve && /tmp/litserve/bin/pip install litserve python-multipart .
"""

import argparse
from typing import Any

import litserve  # type: ignore[import-not-found]
from starlette.requests import Request

from captionist import Caption, Captioner
from captionist.inference.encoding import Prepared


class CaptionAPI(litserve.LitAPI):  # type: ignore[misc]
    """Decode, batch, caption: what LitServe's hooks are for."""

    def __init__(self, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self._threads = threads

    def setup(self, device: str) -> None:  # noqa: ARG002
        self._captioner = Captioner(threads=self._threads)

    def decode_request(self, request: Request) -> Prepared:
        return self._captioner.prepare(request["picture"].file.read())

    def batch(self, inputs: list[Prepared]) -> list[Prepared]:
        return inputs

    def predict(self, inputs: list[Prepared] | Prepared) -> list[Caption]:
        prepared = inputs if isinstance(inputs, list) else [inputs]
        return self._captioner.generate(self._captioner.encode(prepared), self._captioner.defaults)

    def unbatch(self, output: list[Caption]) -> list[Caption]:
        return output

    def encode_response(self, output: Caption) -> dict[str, Any]:
        return {"text": output.text, "log_probability": output.log_probability, "confidence": output.confidence}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=0.005, help="seconds to wait for a batch to fill")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, required=True, help="of the engine in each worker")
    parser.add_argument("--servers", type=int, default=1, help="processes that read HTTP")
    parser.add_argument("--fast-queue", action="store_true", help="ZeroMQ between the processes")
    given = parser.parse_args()
    api = CaptionAPI(given.threads, max_batch_size=given.batch, batch_timeout=given.timeout, api_path="/v1/captions")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=given.workers, fast_queue=given.fast_queue, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=given.servers,
        generate_client_file=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
