import signal
import sys

from flask import Flask

app = Flask(__name__)


@app.get("/")
def greeting() -> str:
    return "from zero to hero"


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy"}


if __name__ == "__main__":
    # The container's first process has no default for SIGTERM: without this line
    # `docker stop` waits 10 seconds, then kills.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # 0.0.0.0: reachable from outside the container. No debug=True: its debugger
    # runs whatever code a visitor sends.
    app.run(host="0.0.0.0", port=5000)
