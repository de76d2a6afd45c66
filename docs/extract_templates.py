"""Finds the messages in the sources, as templates: f-strings, texts and their sums. For make_catalogue.py.

A placeholder is a name and a kind, as `lang/templates.py` says.
"""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

from timellm_cli.lang.templates import PLACE

_MOST_FORMS = 12
"""Of one text, by its conditions; of a text with more, only the first is kept."""
_LONGEST_HEADING = 25
"""Letters of a text whose lines are one heading of a table."""
_WORD = re.compile(r"[A-Za-z]{2,}")
EDGES = " \n.;:,|"
_AS_IS = {
    "address", "anchor", "archive", "argument", "arguments", "assignment", "at", "before", "candidate", "candidates",
    "card", "cell", "choice", "choices", "column", "columns", "command", "credit", "dataset", "date", "default",
    "device", "directory", "dtype", "example", "field", "file", "filename", "files", "first", "flag", "flag_of",
    "flags", "folder", "found", "given", "header", "here", "host", "id", "ids", "item", "join", "key", "keys",
    "known", "label", "last", "licence", "license", "line_text", "llm", "member", "mirror", "model",
    "module", "name", "names", "optimizer", "option", "options", "ours", "output", "part", "parts", "path", "paths",
    "place", "plot", "profile", "prog", "quote", "repr", "root", "runner", "sample_text", "section", "series",
    "shown", "source", "stamp", "stamps", "stem", "strerror", "style", "suffix", "tail", "target", "text", "theirs",
    "timestamp", "title", "url", "value", "values", "version", "wanted", "word", "words", "zone",
}  # fmt: skip
"""Names of variables whose values are the user's, or code."""
_SINGLE = {"noun", "trained", "kind", "verb", "what", "unit", "split", "better", "which"}
_NAMING = {
    "absolute", "flag_of", "format", "fsdecode", "fspath", "get", "item", "join", "lower", "max", "min", "quote",
    "removeprefix", "removesuffix", "replace", "repr", "splitlines", "str", "strip", "upper", "with_suffix", "write",
}  # fmt: skip
_VERBS = ("cli.py", "small_verbs.py", "profile_verbs.py")
"""Where the first sentence of a function is the help of a command."""
_KINDS = {"listed": "l", "quoted": "l", "format_memory": "s", "format_duration": "s", "len": "n", "show_length": ""}
_SILENT_CALLS = {
    "TypeVar", "compile", "find_spec", "fullmatch", "getattr", "import_module", "match", "search", "strftime", "sub",
}  # fmt: skip
_SILENT_KEYWORDS = {
    "dtype", "encoding", "envvar", "errors", "justify", "metavar", "name", "overflow", "style", "title_justify",
}  # fmt: skip


@lru_cache(None)
def templates_of(path: Path) -> list[str]:
    """The templates of one source file, in the order of its lines, each once."""
    finder = _Finder(holds_verbs=path.name in _VERBS)
    finder.visit(ast.parse(path.read_text(encoding="utf-8")))
    return list(dict.fromkeys(finder.found))


@lru_cache(None)
def words_of(path: Path) -> set[str]:
    """Every text constant of a file: a hand-written entry stays while one equals it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value.strip(" .:;,|")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def is_message(template: str) -> bool:
    """Whether the words around placeholders are enough to know the template by."""
    literal = PLACE.sub("\0", template)
    words = _WORD.findall(literal)
    places = [match[2] for match in PLACE.finditer(template)]
    if not places:
        return len(words) >= 2 and re.search(r"\s", literal.strip()) is not None
    if all(kind == "n" for kind in places):
        return bool(words)
    return len(words) >= 2 or any(len(word) >= 4 for word in words)


class _Finder(ast.NodeVisitor):
    """Goes through a module; texts that no user sees are passed over."""

    def __init__(self, holds_verbs: bool) -> None:
        self.found: list[str] = []
        self._holds_verbs = holds_verbs

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        doc = ast.get_docstring(node)
        if doc and self._holds_verbs and (node.name.endswith("_command") or node.decorator_list):
            self._keep(re.sub(r"\s+", " ", doc).strip())
        for argument in (*node.args.args, *node.args.kwonlyargs):
            if argument.annotation:
                self.visit(argument.annotation)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for statement in _without_doc(node.body):
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in _without_doc(node.body):
            self.visit(statement)

    def visit_Module(self, node: ast.Module) -> None:
        for statement in _without_doc(node.body):
            self.visit(statement)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Compare(self, node: ast.Compare) -> None:
        pass

    def visit_match_case(self, node: ast.match_case) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.slice, ast.Constant):
            self.visit(node.slice)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and " " in str(key.value):
                self.visit(key)
            self.visit(value)

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name == "format_count" and len(node.args) == 2:
            for noun in _constants(node.args[1]):
                self._keep(f"{{number:n}} {noun}")
                self._keep(f"{{number:n}} {noun}s")
            self.visit(node.args[0])
            return
        if name in _SILENT_CALLS:
            return
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in _SILENT_KEYWORDS:
                self.visit(keyword.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        self._text(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._text(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and any(
            isinstance(one, ast.JoinedStr | ast.Constant | ast.IfExp) for one in _sum(node)
        ):
            self._text(node)
        else:
            self.generic_visit(node)

    def _text(self, node: ast.expr) -> None:
        """Keep the forms of a text, and look for more inside of what it is made of."""
        apart: list[ast.expr] = []
        for form in _forms(node, apart):
            self._keep(_written(form))
        for inner in apart:
            self.visit(inner)

    def _keep(self, template: str) -> None:
        is_heading = len(template) < _LONGEST_HEADING and not template.startswith("\n")
        for line in [template] if is_heading else re.split(r"\n+", template):
            item = re.sub(r"^\s*- ", "", line).strip()
            bare = item.lstrip(EDGES) if item.endswith(".") else item.strip(EDGES)
            if is_message(bare):
                self.found.append(bare)


Piece = str | ast.expr
Form = tuple[Piece, ...]


def _forms(node: ast.expr, apart: list[ast.expr]) -> list[Form]:  # noqa: PLR0911
    """What a text can be, by its conditions: rows of literal texts and placeholders."""
    match node:
        case ast.Constant(value=str(text)):
            return [(text,)]
        case ast.JoinedStr(values=parts):
            return _product([_forms(part, apart) for part in parts])
        case ast.FormattedValue(value=ast.IfExp() as value, format_spec=None) if _is_textual(value):
            return _forms(value, apart)
        case ast.FormattedValue(value=ast.BinOp(op=ast.Mult(), left=ast.Constant(value=str(text)))):
            return [(text,), ("",)]
        case ast.FormattedValue():
            _note_inner(node.value, apart)
            return [(node,)]
        case ast.IfExp() if _is_textual(node):
            _note_inner(node.test, apart)
            return [*_branch(node.body, apart), *_branch(node.orelse, apart)]
        case ast.BinOp(op=ast.Add()):
            return _product([_forms(part, apart) for part in _sum(node)])
        case ast.BinOp(op=ast.Mult(), left=ast.Constant(value=str(text))):
            return [(text,), ("",)]
        case _:
            _note_inner(node, apart)
            return [(node,)]


def _branch(node: ast.expr, apart: list[ast.expr]) -> list[Form]:
    """The forms of a condition's side. What begins a clause of its own is an entry of its own, too."""
    start = next((one for one in _forms(node, [])[0] if isinstance(one, str)), "")
    if re.match(r"[;.,:] ", start) or start.startswith("\n"):
        apart.append(node)
        return [("",)]
    return _forms(node, apart)


def _product(parts: list[list[Form]]) -> list[Form]:
    count = 1
    for forms in parts:
        count *= len(forms)
    if count > _MOST_FORMS:
        parts = [forms[:1] for forms in parts]
    return list(dict.fromkeys(sum(choice, ()) for choice in product(*parts)))


def _note_inner(node: ast.expr, apart: list[ast.expr]) -> None:
    if not isinstance(node, ast.Constant | ast.Name | ast.Attribute):
        apart.append(node)


def _is_textual(node: ast.expr) -> bool:
    match node:
        case ast.IfExp():
            return _is_textual(node.body) and _is_textual(node.orelse)
        case ast.Constant(value=value):
            return isinstance(value, str)
        case ast.BinOp(op=ast.Add()):
            return any(_is_textual(one) for one in _sum(node))
    return isinstance(node, ast.JoinedStr)


def _sum(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_sum(node.left), *_sum(node.right)]
    return [node]


def _written(form: Form) -> str:
    taken: dict[str, str] = {}
    return "".join(
        one if isinstance(one, str) else _placeholder(one, form, place, taken) for place, one in enumerate(form)
    )


def _placeholder(node: ast.expr, form: Form, place: int, taken: dict[str, str]) -> str:
    spec = ""
    if isinstance(node, ast.FormattedValue):
        spec = "".join(_constants(node.format_spec)) if node.format_spec else ""
        is_repr = node.conversion == ord("r")
        node = node.value
    else:
        is_repr = False
    name, kind = _name(node), ""
    before = form[place - 1] if place else ""
    quoted = isinstance(before, str) and before[-1:] in ("'", '"', "`", "/", "-")
    if re.search(r"[,%fgedn]|^\+|^0?\d+$", spec):
        kind = "n"
    elif spec:  # of a text: cut to a length
        kind = "q"
    elif isinstance(node, ast.Call) and _called(node) in _KINDS:
        kind = _KINDS[_called(node)]
    elif isinstance(node, ast.Call) and not _gives_a_name(node):
        name = name if _called(node) == "format_count" else _called(node).strip("_") or name
    elif quoted or is_repr or name in _AS_IS:
        kind = "q"
    elif name in _SINGLE:
        kind = "w"
    elif isinstance(before, str) and before.endswith("line "):
        kind = "n"
    same = f"{ast.dump(node)} {kind}"  # 1,200 and 1200 are two
    while taken.setdefault(name, same) != same:
        name = re.sub(r"\d*$", lambda match: str(int(match[0] or 1) + 1), name, count=1)
    return f"{{{name}:{kind}}}" if kind else f"{{{name}}}"


def _gives_a_name(node: ast.Call) -> bool:
    """Whether a call gives a part of its argument, and not a text of its own: a method, a join, `quote`, `str`."""
    if _called(node) in _NAMING:
        return True
    return isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name)


def _name(node: ast.expr) -> str:  # noqa: PLR0911
    """A readable name for what an expression gives."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower() or "value"
        case ast.Call(func=ast.Name(id="format_count"), args=[_, ast.Constant(value=str(noun))]):
            return re.sub(r"\W", "_", noun) + "s"
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[inner]):
            return _name(inner) if isinstance(inner, ast.Name | ast.Attribute) else "names"
        case ast.Call(args=[inner, *_]) if not isinstance(inner, ast.Constant | ast.Starred):
            return _name(inner)
        case ast.Call(func=inner) | ast.UnaryOp(operand=inner) | ast.BinOp(left=inner) | ast.Starred(value=inner):
            return _name(inner)
        case ast.Subscript(value=inner, slice=ast.Constant(value=str(key))):
            return key if key.isidentifier() else _name(inner)
        case ast.Subscript(value=inner):
            return _name(inner)
        case ast.BoolOp(values=[inner, *_]) | ast.IfExp(body=inner):
            return _name(inner)
    return "value"


def _constants(node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _without_doc(body: list[ast.stmt]) -> list[ast.stmt]:
    return [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
