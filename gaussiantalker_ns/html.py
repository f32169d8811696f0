"""Self-contained HTML pages: style, colours, and images as data URIs."""

import base64
import io
import json
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f6f6f4; margin: 0; }
main { max-width: 1240px; margin: 0 auto; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 28px 0 8px; }
section { background: #fff; border: 1px solid #ddd; border-radius: 8px; padding: 16px 20px;
  margin-top: 16px; } section h2 { margin-top: 0; }
img { max-width: 100%; display: block; }
table { border-collapse: collapse; } td, th { padding: 3px 18px 3px 0; text-align: left;
  vertical-align: top; } th { font-weight: 500; color: #666; }
ul { list-style: none; padding: 0; margin: 0; }
li.warning { border-left: 4px solid #d1661a; background: #fdf3ea; padding: 8px 12px;
  margin: 6px 0; } .good { border-left: 4px solid #2c8a4b; background: #ecf6ef;
  padding: 8px 12px; } .muted { color: #666; } .pair { display: flex; gap: 24px;
  flex-wrap: wrap; align-items: flex-start; }
.sheet { display: flex; gap: 10px; } .sheet ol { list-style: none; margin: 0; padding: 0;
  width: 90px; flex: none; display: flex; flex-direction: column; }
.sheet li { flex: 1; display: flex; align-items: center; color: #666; font-size: 13px; }
"""


def json_for_html(talker: dict[str, Any]) -> str:
    """The description as JSON that cannot end the element it stands in."""
    return json.dumps(talker).replace("<", "\\u003c")


INK, BLUE, ORANGE, GREEN = "#333333", "#2a6fbb", "#d1661a", "#2c8a4b"


def data_uri(content: bytes, kind: str) -> str:
    """An image as the address of an `img` element."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg_uri(image: UInt8[np.ndarray, "h wd 3"]) -> str:
    """An RGB image as the address of an `img` element."""
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    return data_uri(content.tobytes(), "jpeg")


def figure_uri(figure: Any) -> str:
    """A matplotlib figure as the address of an `img` element."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return data_uri(stream.getvalue(), "png")
