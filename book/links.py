"""The links of a Markdown text, changed one by one."""

import re
from collections.abc import Callable

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:)([^()\s]+)\)")


def relinked(text: str, change: Callable[[str, str, str], str]) -> str:
    """A text whose links within the project are replaced; what stands in code is left alone, as are addresses.

    Args:
        text: Markdown.
        change: Takes "!" or nothing, the words and the target of a link, and gives what takes its place.
    """
    parts = re.split(r"(^```.*?^```|`[^`\n]+`(?!\]))", text, flags=re.MULTILINE | re.DOTALL)
    changed = (
        part if i % 2 else _LINK.sub(lambda match: change(*match.groups()), part) for i, part in enumerate(parts)
    )
    return "".join(changed)
