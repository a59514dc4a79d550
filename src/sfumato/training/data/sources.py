"""Where the art comes from: one row a package, pinned by version and checksum, with its licence and author."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One package of the npm registry: what it is called, what it holds, and who made it under which licence.

    `integrity` is the registry's own Subresource Integrity string (sha512, base64). `style` is the word captions use for its look.
    `licence` is the artists' own for the pictures. `kind` says how a drawing tells what it shows: by its emoji code (`by-code`: iconify's JSON,
    `webp`: a file a code), by its name (`by-name`), or only by our list of drawings (`by-list`); `words` is a package of names or keywords.
    `codes_from` names the package whose table of codes says which drawings count, where that is not its own.
    """

    package: str
    version: str
    integrity: str
    licence: str
    author: str
    kind: Literal["by-code", "webp", "by-name", "by-list", "words"]
    style: str = ""
    codes_from: str = ""


ART: tuple[Source, ...] = (
    Source(
        package="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        integrity="sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="webp",
        style="3d",
        # It also carries other vendors' and user-made extras.
        codes_from="@iconify-json/fluent-emoji-flat",
    ),
    Source(
        package="@iconify-json/fluent-emoji",
        version="1.2.7",
        integrity="sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="by-code",
        style="glossy",
        codes_from="@iconify-json/fluent-emoji-flat",
    ),
    Source(
        package="@iconify-json/fluent-emoji-flat",
        version="1.2.6",
        integrity="sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        licence="MIT",
        author="Microsoft Corporation (Fluent Emoji)",
        kind="by-code",
        style="flat",
    ),
    Source(
        package="@iconify-json/noto",
        version="1.2.9",
        integrity="sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        licence="Apache-2.0",
        author="Google Inc (Noto Emoji)",
        kind="by-code",
        style="noto",
    ),
    Source(
        package="@iconify-json/twemoji",
        version="1.2.5",
        integrity="sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        licence="CC-BY-4.0",
        author="Twitter, Inc and other contributors (Twemoji)",
        kind="by-code",
        style="twemoji",
    ),
    Source(
        package="@iconify-json/noto-v1",
        version="1.2.5",
        integrity="sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        licence="Apache-2.0",
        author="Google Inc (Noto Emoji, first version)",
        kind="by-name",
        style="classic",
    ),
    Source(
        package="@iconify-json/emojione",
        version="1.2.3",
        integrity="sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        licence="CC-BY-4.0",
        author="Emoji One and EmojiTwo contributors (Emoji One 2)",
        kind="by-name",
        style="emojione",
    ),
    Source(
        package="@iconify-json/fxemoji",
        version="1.2.2",
        integrity="sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        # The package says Apache-2.0, which is its upstream's licence for code; its LICENSE.md puts the visual design under CC BY 4.0.
        licence="CC-BY-4.0",
        author="Mozilla Foundation (Firefox OS Emoji)",
        kind="by-name",
        style="fx",
    ),
    Source(
        package="@iconify-json/streamline-emojis",
        version="1.2.4",
        integrity="sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        licence="CC-BY-4.0",
        author="Streamline (Emojis)",
        kind="by-name",
        style="outlined",
    ),
    Source(
        package="@iconify-json/flat-color-icons",
        version="1.2.3",
        integrity="sha512-KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w==",
        licence="MIT",
        author="Icons8 (Flat Color Icons)",
        kind="by-list",
        style="icon",
    ),
    Source(
        package="@iconify-json/streamline-ultimate-color",
        version="1.2.2",
        integrity="sha512-NAbD3xLtg3069865B5CLUulp/eowPNCiDfJBxVAmA+LKLPpxU7EIEJ2+mSfWriPd+ahORWyqjRnoPVkTJopEgg==",
        licence="CC-BY-4.0",
        author="Streamline (Ultimate Color, free icons)",
        kind="by-list",
        style="line",
    ),
    Source(
        package="@iconify-json/streamline-kameleon-color",
        version="1.2.2",
        integrity="sha512-6vFS3ILSmy3w6R1v2nVolNFf9pLuUihOUqyUNVXp0HliWIR6RpJIsWue0Fc6MVri7wde+SWzMJeLAXWU3zE43g==",
        licence="CC-BY-4.0",
        author="Streamline (Kameleon Color, free icons)",
        kind="by-list",
        style="badge",
    ),
)

# Names and groups of every emoji (Unicode CLDR); captions and filters are made of them.
NAMES = Source(
    package="unicode-emoji-json",
    version="0.9.0",
    integrity="sha512-HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
    licence="MIT",
    author="Mu-An Chiou; names from the Unicode CLDR",
    kind="words",
)

# The words people search for emoji by.
KEYWORDS = Source(
    package="emojibase-data",
    version="17.0.0",
    integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    licence="MIT",
    author="Miles Johnson (Emojibase); keywords from the Unicode CLDR",
    kind="words",
)
