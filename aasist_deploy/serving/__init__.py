"""A small HTTP server that scores uploads, for those without Triton.

Uploads are decoded in processes of their own, cut into windows and combined by `pipeline`, so that
a score is that of the verb `score`. Windows of all requests that wait share the engine's next
batch.
Everything that a request can make large has a limit (`Limits`).
"""

from aasist_deploy.serving.limits import Limits

__all__ = ["Limits"]
