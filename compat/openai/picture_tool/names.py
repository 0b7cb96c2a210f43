"""What the tool is called, and what the chat model is told of its results. Data only."""

from typing import Final

TYPE: Final = "image_generation"
"""The type of the tool in a request, and the name of the function that the model sees."""

PICTURE: Final = "[a picture, which you do not see, but can have changed]"
SHOWN: Final = "The picture was made, and the user sees it."
FAILED: Final = "The picture could not be made."
NO_MORE: Final = "No more pictures can be made in this answer."
