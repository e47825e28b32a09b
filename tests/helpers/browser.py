"""A headless Chromium for tests, driven over its own debugging pipe.

The protocol is at https://chromedevtools.github.io/devtools-protocol/: messages
in JSON, each ended by a zero byte, to descriptor 3 and from descriptor 4.
"""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import time
from typing import Any

PROGRAM = shutil.which('chromium') or shutil.which('google-chrome')
_FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
    '--no-first-run', '--disable-background-networking',
    '--remote-debugging-pipe')
_PATIENCE = 60.0  # Seconds for an answer, of a machine that is busy.


class Browser:
  """One page of a browser.

  Attributes:
    requests: Addresses that the page has asked for.
    complaints: Errors and warnings that the page has caused.
  """

  def __init__(self, profile: pathlib.Path):
    """Starts the browser.

    Args:
      profile: Folder for what the browser keeps.
    """
    self.requests: list[str] = []
    self.complaints: list[str] = []
    self._sent, self._session, self._buffer = 0, '', b''
    (read, self._write), (self._read, write) = os.pipe(), os.pipe()
    self._process = subprocess.Popen(
        ['bash', '-c', f'exec "$@" 3<&{read} 4>&{write}', '-', str(PROGRAM),
         *_FLAGS, f'--user-data-dir={profile}', 'about:blank'],
        pass_fds=(read, write), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    os.close(read)
    os.close(write)
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    self._session = self.call(
        'Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Sends a command of the protocol and returns its result."""
    self._sent += 1
    message = {'id': self._sent, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._write, json.dumps(message).encode() + b'\0')
    while (answer := self._receive()).get('id') != self._sent:
      pass
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def open(self, path: pathlib.Path) -> None:
    """Opens a file and waits until it is there."""
    self.call('Page.navigate', url=path.as_uri())
    while self._receive().get('method') != 'Page.loadEventFired':
      pass

  def run(self, script: str) -> Any:
    """Returns the value of an expression of JavaScript, as JSON has it."""
    answer = self.call('Runtime.evaluate', expression=script,
                       returnByValue=True)
    if 'exceptionDetails' in answer:
      raise RuntimeError(f'{script}: {answer["exceptionDetails"]}')
    return answer['result'].get('value')

  def show(self, *, width: int, height: int, scheme: str = 'light') -> None:
    """Sets the size of the window, in pixels, and 'light' or 'dark'."""
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
              deviceScaleFactor=1, mobile=False)
    self.call('Emulation.setEmulatedMedia', features=[
        {'name': 'prefers-color-scheme', 'value': scheme}])

  def point(self, selector: str, event: str = 'mouseMoved') -> None:
    """Moves the mouse to the middle of an element, after scrolling to it."""
    x, y = self.run(
        f'(() => {{ const one = document.querySelector({selector!r});'
        'one.scrollIntoView({block: "center", inline: "center"});'
        'const box = one.getBoundingClientRect();'
        'return [box.x + box.width / 2, box.y + box.height / 2]; })()')
    self.call('Input.dispatchMouseEvent', type=event, x=x, y=y, button='left'
              if event != 'mouseMoved' else 'none', clickCount=1)

  def click(self, selector: str) -> None:
    """Clicks at the middle of an element."""
    for event in ('mouseMoved', 'mousePressed', 'mouseReleased'):
      self.point(selector, event)

  def press(self, key: str) -> None:
    """Presses a key, such as 'ArrowLeft' or 'Tab'."""
    codes = {'Tab': 9, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39,
             'ArrowDown': 40}
    for event in ('rawKeyDown', 'keyUp'):
      self.call('Input.dispatchKeyEvent', type=event, key=key, code=key,
                windowsVirtualKeyCode=codes[key])

  def screenshot(self, path: pathlib.Path) -> None:
    """Writes what the window shows as a PNG."""
    data = self.call('Page.captureScreenshot')['data']
    path.write_bytes(base64.b64decode(data))

  def close(self) -> None:
    """Ends the browser."""
    with contextlib.suppress(OSError, TimeoutError):
      self._session = ''
      self.call('Browser.close')
    os.close(self._write)
    os.close(self._read)
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()

  def _receive(self) -> dict[str, Any]:
    """Returns the next message; keeps requests and complaints."""
    deadline = time.monotonic() + _PATIENCE
    while b'\0' not in self._buffer:
      ready, _, _ = select.select(
          [self._read], [], [], max(deadline - time.monotonic(), 0))
      if not ready:
        raise TimeoutError(f'no answer from {PROGRAM}')
      chunk = os.read(self._read, 1 << 20)
      if not chunk:
        raise OSError(f'{PROGRAM} has ended')
      self._buffer += chunk
    text, _, self._buffer = self._buffer.partition(b'\0')
    message = json.loads(text)
    self._note(message.get('method'), message.get('params', {}))
    return message

  def _note(self, method: str | None, params: dict[str, Any]) -> None:
    if method == 'Network.requestWillBeSent':
      self.requests.append(params['request']['url'])
    elif method == 'Runtime.exceptionThrown':
      self.complaints.append(str(params['exceptionDetails']))
    elif method == 'Runtime.consoleAPICalled':
      self.complaints.append(str(params['args']))
    elif method == 'Log.entryAdded':
      self.complaints.append(params['entry']['text'])
