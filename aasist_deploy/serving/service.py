"""What the server does with a request: let it in, read it, score it, or say why not."""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.serving.batching import AbandonedError, DynamicBatcher
from aasist_deploy.serving.scoring import FAILED, FileScorer, Job, Outcome
from aasist_deploy.serving.uploads import (
    Admission,
    Budget,
    RefusedError,
    read_uploads,
    too_large,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from starlette.requests import Request

    from aasist_deploy.engines import Engine
    from aasist_deploy.pipeline import Decoders, WindowRule
    from aasist_deploy.serving.limits import Limits
    from aasist_deploy.serving.metrics import Metrics
    from aasist_deploy.serving.scoring import Upload

log = logging.getLogger(__name__)

CLIENT_GONE: Final = 499  # as nginx counts it; nobody reads this answer
_STUCK_S: Final = 120.0  # a call of the engine that takes longer will not return
_MOST_RETRY_S: Final = 60


class Service:
    """Everything behind the routes.

    Args:
        engine: Opened model; the caller closes it, after `close`.
        decoders: Decode uploads; the caller closes them.
        limits: Of requests.
        metrics: Is told of what happens.
        rule: Which windows are scored when a request does not say.
        max_batch: Windows of one call of the engine.
        max_wait_s: How long a window waits for company.
        n_decoders: Files decoded at once.
    """

    def __init__(
        self,
        engine: Engine,
        decoders: Decoders,
        limits: Limits,
        metrics: Metrics,
        *,
        rule: WindowRule,
        max_batch: int,
        max_wait_s: float,
        n_decoders: int,
    ) -> None:
        rule.check(engine.contract)
        self.contract, self.limits, self.metrics, self.rule = engine.contract, limits, metrics, rule
        self.is_ready = self.is_draining = False
        self.admission = Admission(limits)
        self._n_decoders = n_decoders
        self._batcher = DynamicBatcher(
            engine, max_batch=max_batch, max_wait_s=max_wait_s, watcher=metrics
        )
        self._scorer = FileScorer(
            engine.contract, engine.device, self._batcher, decoders, limits, max_batch=max_batch
        )
        # Enough files at once to fill a batch while others are decoded.
        self._threads = ThreadPoolExecutor(2 * max_batch + n_decoders, "score")
        metrics.gauge("queue_files", "Files in the server.", lambda: self.admission.n_files)
        metrics.gauge("queue_bytes", "Bytes of uploads in memory.", lambda: self.admission.n_bytes)
        metrics.gauge(
            "queue_windows", "Windows that wait for a batch.", lambda: self._batcher.n_waiting
        )
        metrics.gauge(
            "decoders_replaced",
            "Decoding processes that died or hung and were replaced.",
            lambda: getattr(decoders, "n_replaced", 0),
        )

    def warm_up(self) -> None:
        """Score noise through every decoding process; the server is ready afterwards."""
        self._scorer.warm_up(self._n_decoders, self.rule)
        self.is_ready = True

    @property
    def is_healthy(self) -> bool:
        """Whether a restart would not help: the engine's thread is there and not stuck."""
        return self._batcher.is_alive and self._batcher.call_s < _STUCK_S

    @property
    def retry_after_s(self) -> int:
        """When a client that was refused should come again: when what is here will be done."""
        return min(_MOST_RETRY_S, max(1, math.ceil(self.admission.n_files * self.metrics.window_s)))

    async def score(self, request: Request, rule: WindowRule) -> list[Outcome]:
        """Score the files of a request.

        Raises:
            RefusedError: with the status of the answer.
        """
        job = Job(self.limits.timeout_s)
        budget = Budget(self.admission, self.limits)
        try:
            uploads = await self._receive(request, budget, job)
        except BaseException:
            budget.release()
            raise
        left = [len(uploads)]
        loop = asyncio.get_running_loop()

        def one_done() -> None:
            self.admission.leave()
            left[0] -= 1
            if not left[0]:
                budget.release()

        def done(_future: Future[Outcome]) -> None:
            loop.call_soon_threadsafe(one_done)

        futures = [self._threads.submit(self._scorer.score, one, rule, job) for one in uploads]
        for future in futures:
            future.add_done_callback(done)  # also long after the answer, if one hangs
        del uploads
        try:
            return await self._outcomes(request, futures, job)
        finally:
            job.give_up()
            for future in futures:
                future.cancel()

    async def _receive(self, request: Request, budget: Budget, job: Job) -> list[Upload]:
        """Let a request in and read it; the admission then counts its files."""
        if self.is_draining or not self.is_ready:
            raise RefusedError(503, "The server is starting or shutting down.", "try again")
        self.admission.enter()
        try:
            _check_head(request, self.limits)
            async with asyncio.timeout(job.left_s):
                uploads = await read_uploads(
                    request.stream(),
                    request.headers.get("content-type", ""),
                    request.query_params.get("name"),
                    budget,
                    self.limits,
                )
            self.admission.enter(len(uploads) - 1)
        except TimeoutError as error:
            self.admission.leave()
            raise RefusedError(
                408, f"The upload took more than {self.limits.timeout_s:g} s."
            ) from error
        except BaseException:  # refused, or the client went away
            self.admission.leave()
            raise
        return uploads

    async def _outcomes(
        self, request: Request, futures: list[Future[Outcome]], job: Job
    ) -> list[Outcome]:
        scored: asyncio.Future[list[Outcome | BaseException]] = asyncio.gather(
            *map(asyncio.wrap_future, futures), return_exceptions=True
        )
        scored.add_done_callback(_looked_at)
        gone = asyncio.ensure_future(_disconnected(request))
        both: set[asyncio.Future[Any]] = {scored, gone}
        try:
            await asyncio.wait(both, timeout=job.left_s, return_when=asyncio.FIRST_COMPLETED)
            if not scored.done():
                if gone.done():
                    raise RefusedError(CLIENT_GONE, "The client went away.")
                raise self._too_slow()
        finally:
            gone.cancel()
            scored.cancel()
        outcomes = []
        for found in scored.result():
            if isinstance(found, AbandonedError | asyncio.CancelledError):
                raise self._too_slow()
            if isinstance(found, BaseException):
                log.error("a file could not be scored", exc_info=found)
                raise RefusedError(FAILED, "The model failed; the server's log says more.")
            outcomes.append(found)
        for outcome in outcomes:
            self.metrics.file_done(outcome.status)
        return outcomes

    def _too_slow(self) -> RefusedError:
        return RefusedError(
            504,
            f"The files were not scored within {self.limits.timeout_s:g} s.",
            "try again later, or ask for fewer windows",
        )

    def close(self) -> None:
        """End the threads; what is still being scored is given up."""
        self._batcher.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _looked_at(scored: asyncio.Future[Any]) -> None:
    """Files that were given up are no error that nobody saw, which asyncio would log."""
    if not scored.cancelled():
        scored.exception()


def _check_head(request: Request, limits: Limits) -> None:
    """Refuse what a request's head says already.

    Raises:
        RefusedError: 413 or 415.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.max_upload_bytes:
        raise too_large(limits)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(
            415,
            "The body is compressed.",
            "send it as it is: audio formats are compressed already",
        )


async def _disconnected(request: Request) -> None:
    """Wait until the client goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
