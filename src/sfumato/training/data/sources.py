"""Where the art comes from: one row a package, pinned by version and checksum, with its licence and author."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One package of the npm registry: what it is called, what it holds, and who made it under which licence.

    `integrity` is the registry's own Subresource Integrity string (sha512, base64). `style` is the word captions use for its look.
    `codes_from` names the package whose table of emoji codes this one's drawings follow, where it has none of its own.
    """

    package: str
    version: str
    integrity: str
    licence: str
    author: str
    kind: Literal["iconify", "webp-by-code", "names"]
    style: str = ""
    codes_from: str = ""


ART: tuple[Source, ...] = (
    Source(
        package="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        integrity="sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="webp-by-code",
        style="3d",
    ),
    Source(
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        integrity="sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="iconify",
        style="glossy",
        codes_from="@iconify-json/fluent-emoji-flat",
    ),
    Source(
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        integrity="sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="iconify",
        style="flat",
    ),
    Source(
        package="@iconify-json/noto",
        version="1.2.9",
        integrity="sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        licence="Apache-2.0",
        author="Google Inc (Noto Emoji)",
        kind="iconify",
        style="noto",
    ),
    Source(
        package="@iconify-json/twemoji",
        version="1.2.5",
        integrity="sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        licence="CC-BY-4.0",
        author="Twitter, Inc and other contributors (Twemoji)",
        kind="iconify",
        style="twemoji",
    ),
)

# Names and groups of every emoji (Unicode CLDR); captions and filters are made of them.
NAMES = Source(
    package="unicode-emoji-json",
    version="0.9.0",
    integrity="sha512-HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
    licence="MIT",
    author="Mu-An Chiou; names from the Unicode CLDR",
    kind="names",
)

# The words people search for emoji by.
KEYWORDS = Source(
    package="emojibase-data",
    version="17.0.0",
    integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    licence="MIT",
    author="Miles Johnson (Emojibase); keywords from the Unicode CLDR",
    kind="names",
)

# Whose drawings decide which codes are drawn at all: the 3D set also carries other vendors' and user-made extras.
CODES_FROM = "@iconify-json/fluent-emoji-flat"
