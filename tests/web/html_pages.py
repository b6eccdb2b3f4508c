"""Pages taken apart: whatever is not well-formed, inline or from elsewhere is an error."""

from collections import Counter
from html.parser import HTMLParser
from urllib.parse import urlsplit

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "accept-encoding": "identity"}

#: What the daemon never has to close (HTML, section 13.1.2), what it may leave open, and what SVG closes in itself.
VOID = {"meta", "link", "input", "br"}
OPTIONAL = {"td", "th", "tr", "li"}
SPAN_ATTRIBUTES = ("href", "src", "action")


class Page(HTMLParser):
    """A page taken apart; whatever is not well-formed is an error."""

    def __init__(self, text) -> None:
        super().__init__()
        self.open, self.ids, self.links, self.texts, self.tags = [], [], [], [], Counter()
        self.found = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"
        repeated = [name for name, n in Counter(self.ids).items() if n > 1]
        assert repeated == []

    def handle_starttag(self, tag, attrs) -> None:
        assert not (tag == "script" and "src" not in dict(attrs)), "an inline script"
        self.note(tag, attrs)
        if tag in OPTIONAL and self.open:
            for closed in {"td": ("td", "th"), "th": ("td", "th"), "tr": ("td", "th", "tr"), "li": ("li",)}[tag]:
                if self.open[-1] == closed:
                    self.open.pop()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.note(tag, attrs)

    def note(self, tag, attrs) -> None:
        assert tag != "style"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        for name, value in attrs:
            assert name != "style", (tag, attrs)
            assert not name.startswith("on"), (tag, attrs)
            if name == "id":
                self.ids.append(value)
            if name in SPAN_ATTRIBUTES:
                self.links.append(value)
        self.tags[tag] += 1
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert tag not in VOID
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        assert self.open, f"</{tag}> without a beginning"
        assert self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data) -> None:
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def with_class(self, word):
        return [tag for tag, attrs in self.found if word in (attrs.get("class") or "").split()]


def page(service, path, code=200, **headers):
    answer = service.get(path, headers=HTML | headers)
    assert answer.status_code == code, answer.text[:500]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    found = Page(answer.text)
    for link in found.links:
        assert not urlsplit(link).scheme, link
        assert not link.startswith("//"), link
    for tag, attrs in found.found:  # what names something has to be there
        for name in ("aria-labelledby", "aria-describedby"):
            assert attrs.get(name) in (None, *found.ids), (tag, attrs)
        assert tag != "input" or attrs.get("type") == "hidden" or "label" in found.tags
    return found
