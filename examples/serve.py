"""TensorFlow Serving's REST interface for one SavedModel, with nothing but TensorFlow.

    python examples/serve.py exported/saved_model cats 8501

For trying out what a client will meet; TensorFlow Serving itself serves the same folder
by the same paths and the same JSON.
"""

import base64
import http.server
import json
import pathlib
import sys
from typing import Any

import tensorflow as tf

folder, name, port = sys.argv[1:]
version = max(int(path.name) for path in pathlib.Path(folder).iterdir())
model = tf.saved_model.load(f"{folder}/{version}")
status = {"version": str(version), "state": "AVAILABLE"}


def to_tensor(value: Any) -> tf.Tensor:
    """What the JSON means: {"b64": ...} stands for bytes."""
    return tf.constant(base64.b64decode(value["b64"]) if "b64" in value else value)


def to_json(key: str, value: tf.Tensor) -> Any:
    """Bytes go out as base64 if the name of the output ends so, else as text."""
    if key.endswith("_bytes"):
        return {"b64": base64.b64encode(value.numpy()).decode()}
    text = value.dtype == tf.string
    return value.numpy().astype(str).tolist() if text else value.numpy().tolist()


class Handler(http.server.BaseHTTPRequestHandler):
    """GET tells whether the model is there, POST asks it."""

    def do_GET(self) -> None:  # noqa: D102
        known = self.path == f"/v1/models/{name}"
        self.answer(*((200, {"model_version_status": [status]}) if known else UNKNOWN))

    def do_POST(self) -> None:  # noqa: D102
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != f"/v1/models/{name}:predict":
            return self.answer(*UNKNOWN)
        try:
            request = json.loads(body)
            ask = model.signatures[request.get("signature_name", "serving_default")]
            given = request["inputs"]
            if not isinstance(given, dict) or "b64" in given:  # The only input.
                given = {next(iter(ask.structured_input_signature[1])): given}
            outputs = ask(**{key: to_tensor(value) for key, value in given.items()})
            found = {key: to_json(key, value) for key, value in outputs.items()}
        except Exception as error:
            return self.answer(400, {"error": f"{type(error).__name__}: {error}"})
        (first, *others) = found.values()
        return self.answer(200, {"outputs": found if others else first})

    def answer(self, code: int, content: object) -> None:
        """Sends JSON."""
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())


UNKNOWN = 404, {"error": f"Only /v1/models/{name} is served."}

if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/v1/models/{name}", flush=True)
        server.serve_forever()
