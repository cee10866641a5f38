"""Stack traces of Java, JavaScript, Go and .NET, as OTLP brings them. They have no source text."""

from __future__ import annotations

import re
from dataclasses import replace

from .places import general, module_of, without_digits, without_variables
from .stacks import MAX_FRAMES, Frame, Raised

# --- Java and its relatives ----------------------------------------------------------------------------------------

_JAVA_FRAME = re.compile(r"\s*at ([^\s()]+)\(([^()]*)\)")
_JAVA_PLACE = re.compile(
    r"[^\s:]+\.(?:java|kt|kts|scala|groovy|clj)(?::\d+)?$|Native Method$|Unknown Source$|<generated>$"
)
_JAVA_GENERATED = re.compile(
    r"\$\$.*|\$(?:Proxy)?\d[\w$]*$|(?<=GeneratedMethodAccessor)\d+|(?<=GeneratedConstructorAccessor)\d+"
)
_JAVA_LIBRARIES = (
    "java.", "javax.", "jakarta.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala.", "groovy.", "clojure.",
    "org.springframework.", "org.apache.", "org.hibernate.", "org.eclipse.", "org.junit.", "org.codehaus.",
    "org.jboss.",
    "io.netty.", "io.grpc.", "io.micronaut.", "io.quarkus.", "io.undertow.", "io.vertx.", "io.opentelemetry.",
    "reactor.", "rx.", "akka.", "okhttp3.", "retrofit2.", "feign.", "ch.qos.logback.", "org.slf4j.", "android.",
    "androidx.", "com.fasterxml.", "com.google.common.", "com.google.inject.", "com.zaxxer.hikari.", "com.mysql.",
    "org.postgresql.", "org.aspectj.", "cglib.", "net.sf.", "net.bytebuddy.", "org.gradle.",
)  # fmt: skip


def is_java(line: str) -> bool:
    """Whether a line is a frame of Java's."""
    match = _JAVA_FRAME.match(line)
    return match is not None and _JAVA_PLACE.match(match[2]) is not None


def parse_java(lines: list[str]) -> list[Raised]:
    """The exceptions, the innermost cause first; what was suppressed is left out, as it came on top."""
    found: list[Raised] = []
    current: Raised | None = None
    suppressed = -1  # indentation of the exception that is being passed over
    for line in lines:
        text = line.lstrip()
        indent = len(line) - len(text)
        if 0 <= suppressed < indent:
            continue
        suppressed = -1
        if text.startswith("Suppressed: "):
            suppressed = indent
        elif text.startswith("Caused by: "):
            current = Raised(_type_of(text[11:]))
            found.append(current)
        elif match := _JAVA_FRAME.match(line):
            if current is not None and len(current.frames) < MAX_FRAMES:
                current.frames.append(_java_frame(match[1]))
        elif current is None and text:
            current = Raised(_type_of(text))
            found.append(current)
    return _inwards(found)


def _java_frame(name: str) -> Frame:
    name = name.rpartition("/")[2]  # the module or class loader that it is from
    class_, _, method = name.rpartition(".")
    is_own = not class_.startswith(_JAVA_LIBRARIES) and "$$" not in name and "Accessor" not in class_
    return Frame(_JAVA_GENERATED.sub("", class_), without_digits(_JAVA_GENERATED.sub("", method)), "", is_own)


def _type_of(text: str) -> str:
    """The type in `Exception in thread "main" a.b.Type: message`."""
    if text.startswith('Exception in thread "'):
        text = text[21:].partition('" ')[2]
    return _JAVA_GENERATED.sub("", text.partition(":")[0].partition(" ")[0])


def _inwards(found: list[Raised]) -> list[Raised]:
    """From texts that begin with the outermost exception and its innermost frame."""
    for raised in found:
        raised.frames.reverse()
    return found[::-1]


# --- .NET ----------------------------------------------------------------------------------------------------------

_DOTNET_INNER = "---> "
_DOTNET_LIBRARIES = (
    "System.", "Microsoft.", "Newtonsoft.", "Npgsql.", "MySql.", "Dapper.", "Grpc.", "Serilog.", "NLog.", "Polly.",
    "MediatR.", "AutoMapper.", "FluentValidation.", "StackExchange.", "OpenTelemetry.", "Castle.", "Autofac.",
    "lambda_method", "Xunit.", "NUnit.",
)  # fmt: skip
_DOTNET_STATE = re.compile(r"\.?<+([^<>]*)>[^.]*\.MoveNext$")
_DOTNET_CLOSURE = re.compile(r"\.<>c(?:__DisplayClass[\d_]+)?\.<(\w+)>b__[\d_]+$")


def is_dotnet(line: str) -> bool:
    """Whether a line is a frame of .NET's; asked after Java and JavaScript have been."""
    return line.lstrip().startswith("at ") and "(" in line and (line.endswith(")") or ":line " in line)


def parse_dotnet(lines: list[str]) -> list[Raised]:
    """The exceptions, the innermost first, as their frames are in the text."""
    types: list[str] = []
    found: list[Raised] = []
    frames: list[Frame] = []
    for line in lines:
        text = line.strip()
        if text.startswith("at ") and "(" in text:
            if len(frames) < MAX_FRAMES:
                frames.append(_dotnet_frame(text[3:]))
        elif text.startswith("--- End of inner exception stack trace"):
            found.append(Raised(types.pop() if types else "", frames))
            frames = []
        elif text.startswith(_DOTNET_INNER) or (not types and not found and text):
            types += [_type_of(part) for part in text.removeprefix(_DOTNET_INNER).split(f" {_DOTNET_INNER}")]
    found.append(Raised(types.pop() if types else "", frames))
    for raised in found:
        raised.frames.reverse()
    return found


def _dotnet_frame(text: str) -> Frame:
    name = text.partition("(")[0].strip()
    name = _DOTNET_STATE.sub(r".\1", name)
    name = _DOTNET_CLOSURE.sub(r".\1", name)
    class_, _, method = name.rpartition(".")
    return Frame(without_digits(class_), without_digits(method), "", not name.startswith(_DOTNET_LIBRARIES))


# --- JavaScript ----------------------------------------------------------------------------------------------------

_V8_END = re.compile(r":\d+:\d+$")
_GECKO = re.compile(r"(?:[^@]*@)?[^\s@]+:\d+(?::\d+)?$")
_JS_LIBRARY = ("node_modules/", "node:", "internal/", "<anonymous>", "native", "webpack/bootstrap", "deno:", "ext:")
_HASHED = re.compile(r"[-.](?=[\w-]*\d)[\w-]{8,}$")
_NO_NAME = frozenset({"<anonymous>", "anonymous", "Object.<anonymous>"})


def is_v8(line: str) -> bool:
    """Whether a line is a frame of V8's: Node, Deno, Chrome, Edge."""
    text = line.strip()
    if not text.startswith("at "):
        return False
    return _V8_END.search(text.removesuffix(")")) is not None or text.endswith("(<anonymous>)")


def is_gecko(line: str) -> bool:
    """Whether a line is a frame of Firefox's or Safari's."""
    return "@" in line and _GECKO.match(line.strip()) is not None


def parse_javascript(lines: list[str]) -> list[Raised]:
    """The errors, the innermost cause first."""
    found: list[Raised] = []
    for line in lines:
        text = line.strip().removesuffix(" {")
        place = _v8_place(text) if is_v8(line) else _gecko_place(text) if is_gecko(line) else None
        if place is None:
            header = text.removeprefix("[cause]: ").removeprefix("Caused by: ").removeprefix("Uncaught ")
            name = header.partition(":")[0]
            if (not found or header != text) and name.replace(".", "").replace("$", "_").isidentifier():
                found.append(Raised(name))
            continue
        if not found:
            found.append(Raised(""))
        if len(found[-1].frames) < MAX_FRAMES:
            found[-1].frames.append(_javascript_frame(*place))
    return _inwards(found)


def _v8_place(text: str) -> tuple[str, str]:
    function, found, path = text[3:].removesuffix(")").rpartition(" (")
    return (function, path) if found else ("", text[3:])


def _gecko_place(text: str) -> tuple[str, str]:
    function, _, path = text.rpartition("@")
    return function.rpartition("*")[2].strip("/<"), path


def _javascript_frame(function: str, path: str) -> Frame:
    function = function.removeprefix("async ").removeprefix("new ").partition(" [as ")[0]
    path = path.rpartition(", ")[2] if path.startswith("eval at ") else path
    path = _V8_END.sub("", path)
    own = not any(marker in path for marker in _JS_LIBRARY) if path != "" else False
    path = path.partition("?")[0].partition("#")[0].replace("\\", "/").partition("://")[2] or path.partition("?")[0]
    directory, slash, name = path.rpartition("/")
    stem, dot, rest = name.partition(".")
    path = f"{directory}{slash}{_HASHED.sub('', stem)}{dot}{rest}"
    return Frame(module_of(path), "" if function in _NO_NAME else function, "", own)


# --- Go ------------------------------------------------------------------------------------------------------------

_GO_PLACE = re.compile(r"\t[^\s].*\.(?:go|s|c):\d+(?: \+0x[0-9a-f]+)?$")
_GO_LIBRARY = re.compile(
    r"/go\d?[\d.]*/src/|/usr/(?:local/)?lib/go|/pkg/mod/|/vendor/|\$GOROOT|^\t(?:runtime|internal)/|_cgo_"
)
_GO_GENERICS = re.compile(r"\[[^\[\]]*\]")


def is_go(line: str) -> bool:
    """Whether a line is a place of Go's."""
    return _GO_PLACE.match(line) is not None


def parse_go(lines: list[str]) -> list[Raised]:
    """The panic with the frames of the goroutine that it was in, which comes first."""
    raised, name, in_goroutine = Raised(""), "", 0
    for line in lines:
        if line.startswith(("panic: ", "fatal error: ")) and not in_goroutine:
            raised = replace(raised, detail=_panic(line))
        elif line.startswith("goroutine "):
            in_goroutine += 1
            if in_goroutine > 1:
                break
        elif _GO_PLACE.match(line) and name:
            if not name.startswith("created by ") and len(raised.frames) < MAX_FRAMES:
                raised.frames.append(_go_frame(name, line))
        else:
            name = line
    raised.frames.reverse()
    return [raised]


def _panic(line: str) -> str:
    """What kind of panic the runtime says it was; an application's own texts say what happened this time."""
    text = line.partition(": ")[2].removesuffix(" [recovered]")
    return general(text) if text.startswith("runtime error: ") or line.startswith("fatal") else ""


def _go_frame(name: str, place: str) -> Frame:
    name = name.rpartition("(")[0] if name.endswith(")") else name
    name = _GO_GENERICS.sub("", name)
    package, _, function = name.rpartition("/")
    own = not _GO_LIBRARY.search(place) and not name.startswith(("runtime.", "panic"))
    module, _, function = (function or name).partition(".")
    prefix = f"{without_variables(package)}/" if package else ""
    return Frame(prefix + module, without_digits(function), "", own)
