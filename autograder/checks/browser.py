"""A real browser for tests of pages: headless Chromium, driven in its own protocol."""

import itertools
import json
import shutil
import subprocess
import time
import urllib.request

LIMIT = 120  # seconds that any state may take: a broken page is found, a busy machine is not
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
    "--remote-debugging-port=0 --window-size=1200,800"
).split()


class Browser:
    """A headless Chromium with one page, told what to do in its own protocol.

    Args:
        folder: new and empty, for its profile.
    """

    def __init__(self, folder):
        import websocket

        self.process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = folder / "DevToolsActivePort"
        port = wait(lambda: told.exists() and told.read_text().partition("\n")[0])
        listing = f"http://127.0.0.1:{port}/json/list"
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def page():
            with direct.open(listing, timeout=LIMIT) as answer:
                return [each for each in json.load(answer) if each["type"] == "page"]

        address = wait(page)[0]["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(
            address, timeout=LIMIT, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        self.numbers, self.asked, self.errors = itertools.count(1), [], []
        for domain in ("Network", "Page", "Runtime"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        """One command and its answer; on the way, what the page asked the network for."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
            if message.get("method") == "Network.webSocketCreated":
                self.asked.append(message["params"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script):
        """What a line of JavaScript gives."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script):
        """Wait until a line of JavaScript gives something true, and give it."""
        return wait(lambda: self.run(script))

    def type(self, field, text):
        """Put text in place of what stands in a field, as a keyboard does."""
        self.until(f"document.querySelector('{field}') !== null")
        self.run(f"document.querySelector('{field}').focus()")
        self.run(f"document.querySelector('{field}').select()")
        if text:
            self.tell("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                self.tell(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key="Delete",
                    code="Delete",
                    windowsVirtualKeyCode=46,
                )

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(LIMIT)


def wait(look, told=lambda: "nothing came"):
    """What `look` gives, as soon as it is true."""
    deadline = time.monotonic() + LIMIT
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {LIMIT} s: {told()}"
        time.sleep(0.05)
    return found
