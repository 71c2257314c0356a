"""The routes: /score, /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import aasist_deploy
from aasist_deploy.errors import UsageError
from aasist_deploy.pipeline import WindowRule
from aasist_deploy.serving.answers import OPENAPI_BODY, FileAnswer, Problem, ScoreAnswer
from aasist_deploy.serving.service import CLIENT_GONE
from aasist_deploy.serving.uploads import RefusedError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from aasist_deploy.serving.scoring import Outcome
    from aasist_deploy.serving.service import Service

log = logging.getLogger(__name__)

_PATHS: Final = ("/score", "/healthz", "/readyz", "/metrics", "/openapi.json")
_OPTIONS: Final = ("windows", "hop", "aggregate", "window_scores", "name")
_LINGER_S: Final = 2.0
_MIXED: Final = 207  # some files were scored and others were not (RFC 4918)
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def create_app(
    service: Service, *, token: str | None = None, protect_metrics: bool = False
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        service: What is behind the routes.
        token: What `Authorization: Bearer` must say at /score; None for nothing.
        protect_metrics: Ask for it at /metrics too.
    """
    app = FastAPI(
        title="aasist-deploy",
        version=aasist_deploy.__version__,
        description="Scores audio: higher means more likely bona fide (human), lower spoofed.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(_Counted, service=service)

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> JSONResponse:
        return _problem(error, service)

    @app.exception_handler(UsageError)
    async def usage(_request: Request, error: UsageError) -> JSONResponse:
        return _problem(RefusedError(400, str(error), error.fix), service)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = str(first["loc"][-1])
        return _problem(RefusedError(400, f"{where}: {first['msg']}."), service)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        answer = _problem(RefusedError(error.status_code, str(error.detail)), service)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return _problem(RefusedError(CLIENT_GONE, "The client went away."), service)

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> JSONResponse:
        return _problem(RefusedError(500, "The server failed; its log says more."), service)

    @app.post(
        "/score",
        response_model=ScoreAnswer,
        responses={
            _MIXED: {"model": ScoreAnswer, "description": "Some files could not be scored."},
            **{code: {"model": Problem} for code in (400, 401, 408, 413, 415, 422, 500, 503, 504)},
        },
        openapi_extra=OPENAPI_BODY,
    )
    async def score(
        request: Request,
        windows: Annotated[
            str | None, Query(description="first, all, or a number: which windows of a file.")
        ] = None,
        hop: Annotated[
            float | None, Query(description="Seconds from one window to the next.")
        ] = None,
        aggregate: Annotated[
            str | None, Query(description="mean, max, min, top-K or bottom-K of the windows.")
        ] = None,
        window_scores: Annotated[
            bool, Query(description="Also the score of every window.")
        ] = False,
        name: Annotated[  # noqa: ARG001  # read with the body
            str | None, Query(description="Of a file that is the body itself.", max_length=1024)
        ] = None,
    ) -> Response:
        _authorize(request, token)
        if unknown := sorted(set(request.query_params) - set(_OPTIONS)):
            raise UsageError(
                f"There is no option {unknown[0][:100]!r}.", fix=f"known are {', '.join(_OPTIONS)}"
            )
        rule = rule_of(service.rule, windows, hop, aggregate)
        rule.check(service.contract)
        outcomes = await service.score(request, rule)
        return _answer(service, rule, outcomes, window_scores=window_scores)

    @app.get("/healthz", responses={503: {"model": Problem}})
    async def healthz() -> Response:
        if not service.is_healthy:
            raise RefusedError(503, "The engine does not answer.")
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    @app.get("/readyz", responses={503: {"model": Problem}})
    async def readyz() -> Response:
        if service.is_draining or not service.is_ready or not service.is_healthy:
            raise RefusedError(503, "The server is starting or shutting down.")
        return JSONResponse({"status": "ready"}, headers=_HEADERS)

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        if protect_metrics:
            _authorize(request, token)
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    return app


def rule_of(
    default: WindowRule, windows: str | None, hop: float | None, aggregate: str | None
) -> WindowRule:
    """The server's rule with what a request says of it.

    Raises:
        UsageError: that is no rule.
    """
    if windows is not None:
        if windows == "first":
            default = WindowRule()
        elif windows == "all":
            default = replace(default, n_windows=None)
        elif windows.isdecimal() and len(windows) < 10:
            default = replace(default, n_windows=int(windows))
        else:
            raise UsageError("windows must be first, all, or a number from 1.")
    if hop is not None:
        default = replace(default, hop_s=hop)
    return default if aggregate is None else replace(default, aggregate=aggregate)


def _authorize(request: Request, token: str | None) -> None:
    """Refuse a request without the token; how long that takes says nothing about the token.

    Raises:
        HTTPException: 401.
    """
    if token is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not same:
        raise HTTPException(
            401, "This server asks for a token.", headers={"WWW-Authenticate": "Bearer"}
        )


def _problem(error: RefusedError, service: Service) -> JSONResponse:
    """An error as an answer."""
    headers = dict(_HEADERS)
    if error.status in (503, 504):
        headers["Retry-After"] = str(service.retry_after_s)
    content = {"error": str(error), "fix": error.fix}
    return JSONResponse(content, error.status, headers=headers)


def _answer(
    service: Service, rule: WindowRule, outcomes: list[Outcome], *, window_scores: bool
) -> JSONResponse:
    files = [FileAnswer.of(one.row, one.status, window_scores=window_scores) for one in outcomes]
    answer = ScoreAnswer(
        model=service.contract.architecture,
        score=f"{service.contract.score}; higher: more likely bona fide",
        window=rule.name(service.contract),
        files=files,
    )
    codes = {one.status for one in outcomes}
    status = codes.pop() if len(codes) == 1 else _MIXED
    without = set() if window_scores else {"window_scores"}
    content = answer.model_dump(exclude={"files": {"__all__": without}})
    return JSONResponse(content, status, headers=_HEADERS)


class _Counted:
    """Tells the metrics of every answer, and reads what is left of a body before it is refused.

    Closing a connection while its client still sends would lose the answer on its way. So what is
    refused is read on for a moment, and nothing of it kept.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, is_whole = time.monotonic(), 500, False

        async def receiving() -> Message:
            nonlocal is_whole
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                is_whole = True
            return message

        async def read_on() -> None:
            n_bytes = 0
            while not is_whole and n_bytes <= self._service.limits.max_upload_bytes:
                n_bytes += len((await receiving()).get("body", b""))

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not is_whole:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(read_on(), _LINGER_S)
                if not is_whole or self._service.is_draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._service.metrics.request_done(path, status, time.monotonic() - began)
