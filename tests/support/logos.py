"""Pictures for logos."""

from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw


def draw_logo(kind: str = "PNG", size: tuple[int, int] = (900, 300), mode: str = "RGBA", **options: Any) -> bytes:
    """Return a picture of a disc and a bar, in PNG half transparent."""
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    drawing = ImageDraw.Draw(picture)
    width, height = size
    drawing.ellipse((0, 0, height, height), fill=(180, 40, 40, 255))
    drawing.rectangle((width // 2, height // 3, width, height * 2 // 3), fill=(18, 57, 91, 180))
    return save_picture(picture.convert(mode), kind, **options)


def save_picture(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the picture as a file."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
