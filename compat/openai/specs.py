"""How answers are described in the server's own API description."""

from litestar.openapi.datastructures import ResponseSpec

from compat.openai import wire


def answers(body: type, description: str) -> dict[int, ResponseSpec]:
    """Return the description of an answer and of a refusal."""
    return {
        200: ResponseSpec(body, description=description, generate_examples=False),
        400: ResponseSpec(wire.ErrorBody, description="What is wrong with the request", generate_examples=False),
    }
