"""A page that scores speech in the browser: one HTML file with the model and its runtime inside.

Everything is inside one file because a page that is opened from disk may load no other: browsers
refuse it fetch, modules and workers from files. It therefore needs no network, and its policy
forbids one. The sources of the page lie in `aasist_deploy/web`.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.export.web_runtime import WebRuntime

PAGE_NAME: Final = "index.html"
MODEL_NAME: Final = "model.onnx"
# What a worker with onnxruntime-web's CPU kernels was seen to run like ONNX Runtime: docs/web.md.
PRECISIONS: Final = ("fp32",)
_SOURCES: Final = Path(__file__).resolve().parents[1] / "web"
# In the order in which one uses another; `wav.js` has the error class of both.
_APP: Final = ("wav.js", "decode.js", "microphone.js", "chart.js", "app.js")
_WORKER: Final = ("wav.js", "resample.js", "model_file.js", "worker.js")
_SLOT: Final = re.compile(r"@@([A-Z]+)@@")

_README: Final = """\
# {architecture} in a browser

Open `{page}` in a current browser: from disk, or from any web server, such as

    python3 -m http.server --bind 127.0.0.1

It is whole: model, runtime and page are in that one file, which loads and sends nothing. Browsers
give a page the microphone from disk, at localhost and over https only.

`{model}` is the same model for other programs; the page does not read it.
The runtime inside is {runtime}; its licence is at the end of the page.
"""


def check_web_model(path: Path) -> None:
    """Refuse a model that the page cannot run.

    Raises:
        ModelFileError: not an exported file, or one for streams.
        UsageError: of a precision that browsers do not run well.
    """
    contract, _ = read_contract(path)
    if contract.precision not in PRECISIONS:
        raise UsageError(
            f"{path} computes in {contract.precision}; the page runs {', '.join(PRECISIONS)}.",
            fix="export it with --precision fp32",
        )


def write_web_page(model: Path, folder: Path, runtime: WebRuntime) -> int:
    """Write `index.html` with model and runtime inside, the model beside it, and a README.

    Args:
        model: Exported .onnx file, which may lie in the folder as `MODEL_NAME` already.
        folder: Is made when it is missing.
        runtime: Checked files of onnxruntime-web.

    Returns:
        Bytes of the page.

    Raises:
        ModelFileError: the model is none.
        UsageError: the model is of a precision that browsers do not run well.
        EnvironmentLacks: the page's sources are missing.
        OutputError: the folder cannot be written.
    """
    check_web_model(model)
    contract, file = read_contract(model)
    page = page_of(file.content, contract, runtime)
    pinned = runtime.pinned
    readme = _README.format(
        architecture=contract.architecture, page=PAGE_NAME, model=MODEL_NAME, runtime=pinned.spec
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if model.resolve() != (folder / MODEL_NAME).resolve():
            (folder / MODEL_NAME).write_bytes(file.content)
        (folder / PAGE_NAME).write_bytes(page)
        (folder / "README.md").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            fix="name a place that you may write to",
        ) from error
    return len(page)


def page_of(model: bytes, contract: ModelContract, runtime: WebRuntime) -> bytes:
    """The page as UTF-8.

    Args:
        model: Bytes of the exported file.
        contract: Of that file.
        runtime: Checked files of onnxruntime-web.

    Raises:
        EnvironmentLacks: the page's sources are missing.
    """
    pinned = runtime.pinned
    app, style = _source(*_APP), _source("style.css")
    manifest: dict[str, Any] = {
        "model": {"sha256": sha256(model).hexdigest(), "n_bytes": len(model)},
        "runtime": {
            "name": pinned.package,
            "version": pinned.version,
            "script_sha256": pinned.script.sha256,
            "wasm_sha256": pinned.wasm.sha256,
        },
    }
    filled = {
        "POLICY": _policy(app, style),
        "TITLE": html.escape(f"{contract.architecture}: bona fide or spoofed speech?"),
        "STYLE": style,
        "MANIFEST": json.dumps(manifest).replace("<", "\\u003c"),
        "WORKER": _source(*_WORKER),
        "MODEL": _packed(model),
        "SCRIPT": _packed(runtime.script),
        "WASM": _packed(runtime.wasm),
        "APP": app,
    }
    return _SLOT.sub(lambda slot: filled[slot[1]], _source("page.html")).encode()


def _policy(app: str, style: str) -> str:
    """Content-Security-Policy: the page's own script and style, nothing from or to elsewhere.

    `blob:` is how the page starts its worker and the runtime, from texts that it holds;
    'wasm-unsafe-eval' allows WebAssembly, and no `eval`.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_csp_hash(app)}' 'wasm-unsafe-eval' blob:",
            f"style-src '{_csp_hash(style)}'",
            "worker-src blob:",
            "connect-src 'none'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _packed(content: bytes) -> str:
    # A fixed time in the gzip header: the same model gives the same page.
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _source(*names: str) -> str:
    try:
        text = "\n".join((_SOURCES / name).read_text(encoding="utf-8") for name in names)
    except OSError as error:
        raise EnvironmentLacks(
            f"The sources of the page are not in {_SOURCES}.",
            fix="install aasist-deploy from its wheel again",
        ) from error
    return text
