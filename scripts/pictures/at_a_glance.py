"""Who gets a packet while a challenge is pending, for those who see the plugin for the first time."""

from __future__ import annotations

from scripts.pictures.drawing import Arrow, Box, drawn, sheet

_WIDTH, _HEIGHT = 960, 268
_SELECTION = (
    "Port 80, 443 or 53",
    "The kernel looks at how a",
    "payload begins.",
    "",
    "What begins like a challenge",
    "goes to Certbot, which passes it",
    "on if no such challenge waits.",
    "All else goes on at once.",
)
_ELEMENTS: tuple[Box | Arrow, ...] = (
    Box(308, 16, 636, 236, ("This machine",), "lane"),
    Box(16, 48, 212, 68, ("The CA", "asks for the challenge that", "Certbot waits for"), "ours"),
    Box(16, 160, 212, 68, ("Everyone else", "pages, uploads, handshakes,", "other queries")),
    Box(332, 48, 228, 180, _SELECTION),
    Box(680, 48, 240, 68, ("Certbot", "answers from the server's address", "and port"), "ours"),
    Box(680, 160, 240, 68, ("Your server", "is not stopped, not configured,", "not reloaded")),
    Arrow(((228, 82), (332, 82)), kind="taken"),
    Arrow(((560, 82), (680, 82)), "the challenge", (574, 74), "taken"),
    Arrow(((228, 194), (332, 194))),
    Arrow(((560, 194), (680, 194)), "all else", (596, 186)),
)


def svg() -> str:
    """Return the picture."""
    title = "The CA's request for a challenge goes to Certbot, and every other packet to the server"
    return sheet(_WIDTH, _HEIGHT, title, drawn(_ELEMENTS))
