"""Queries over the world of `tk_traces`, each with the spans that it finds: read off the world by hand.

Some lists are too long for that (`i4 i7 …`, all of a service): there the two evaluators are compared all the same.
"""

EVERYTHING = "a1 a2 a3 a4 a5 a6 b1 b2 b3 b4 b5 b6 c1 d1 d2 d3 d4 e2 e3 e4 f1 f2 f3 f4 g1 g2 g3 g4 h1 h2 h3 i1..i30"

TABLE = r"""
{ true }  =>  *
{ false }  =>  -
{ name = "GET /cart" }  =>  a1 h1
{ span:name = "GET /cart" }  =>  a1 h1
{ name != "SELECT" && resource.service.name = "stock" }  =>  a4 d4 i2 i5 i8 i11 i14 i17 i20 i23 i26 i29
{ name =~ "GET.*" }  =>  a1 a4 c1 h1
{ name =~ "GET" }  =>  -
{ name !~ "GET.*|POST.*" && kind = server }  =>  -
{ name =~ "SELECT|publish" }  =>  a5 a6 b4
{ name =~ "(?i)select" }  =>  a5 a6
{ name =~ "level [12]?5" }  =>  i5 i15 i25
{ name =~ ".*o.*o.*" }  =>  f1 f2
{ name = "" }  =>  d3
{ name = `name with "quotes"` }  =>  d4
{ name = "name with \"quotes\"" }  =>  d4
{ name > "n" && name < "s" }  =>  b4 d4 e2 e3 e4 f1 f2 g1 g2 h3
{ kind = server }  =>  a1 a4 b1 b3 c1 h1
{ span:kind = client }  =>  a3 a5 a6 b2 b6
{ kind = producer || kind = consumer }  =>  b4 b5
{ kind = unspecified }  =>  d3
{ kind != internal && kind != server && kind != client }  =>  b4 b5 d3
{ status = error }  =>  a4 b6 h1
{ status = ok }  =>  b3 f4
{ span:status != unset }  =>  a4 b3 b6 f4 h1
{ statusMessage = "no stock" }  =>  a4 b6
{ span:statusMessage =~ "no .*" }  =>  a4 b6
{ statusMessage = "" && status = error }  =>  h1
{ duration > 1s }  =>  b1 b2 b3
{ duration >= 1.5s }  =>  b1
{ duration = 1400ms }  =>  b2
{ span:duration < 2ms }  =>  d2 d4 g3 g4
{ duration = 0s }  =>  d2
{ duration != 5ms && trace:id = "67676767676767676767676767676767" }  =>  g3 g4
{ duration > 1000000000 }  =>  b1 b2 b3
{ 1s < duration }  =>  b1 b2 b3
{ traceDuration > 1s && kind = server }  =>  b1 b3
{ trace:duration = 100ms && nestedSetParent < 0 }  =>  a1
{ rootName = "POST /order" && kind = client }  =>  b2 b6
{ rootServiceName = "pay" }  =>  c1
{ trace:rootService = "shop" && resource.service.name = "pay" }  =>  b3 b4 f2 f3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ trace:rootName = "" }  =>  e2 e3 e4 g1 g2 g3 g4
{ trace:id = "61616161616161616161616161616161" && kind = client }  =>  a3 a5 a6
{ span:id = "0000000000610002" }  =>  a2
{ span:parentID = "0000000000610004" }  =>  a5 a6
{ span:parentID = "" && resource.service.name = "pay" }  =>  c1 f2
{ parent = nil && name =~ "root.*" }  =>  f1 f2
{ parent = "0000000000620001" }  =>  b2
{ span:childCount > 2 }  =>  d1
{ span:childCount = 0 && trace:id = "61616161616161616161616161616161" }  =>  a2 a5 a6
{ nestedSetParent = 1 }  =>  a2 a3 b2 d2 d3 d4 f4 h2 h3 i2
{ nestedSetLeft = 1 && nestedSetRight = 12 }  =>  a1 b1
{ nestedSetRight - nestedSetLeft = 1 && rootName = "POST /order" }  =>  b6
{ resource.cluster = "us" }  =>  b3 b4 c1 e4 f2 f3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ resource.service.version = "1.2.3" && nestedSetParent < 0 }  =>  a1 b1 d1 f1 h1 i1
{ resource.replicas = 3 && kind = server }  =>  a1 b1 h1
{ resource.canary = false && kind = client }  =>  a3 b2
{ resource.zones = "b" }  =>  b3 b4 c1 e4 f2 f3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ resource.zones != "c" && kind = server }  =>  b3 c1
{ resource.load < 1 && kind = server }  =>  a4
{ resource.service.name = nil }  =>  b5 b6
{ resource.region != nil }  =>  b3 b4 c1 e4 f2 f3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ resource.nothing = nil && name = "send" }  =>  b6
{ .cluster = "mine" }  =>  b6
{ .cluster = "eu" && kind = consumer }  =>  b5
{ span.cluster = nil && name = "send" }  =>  -
{ instrumentation:name = "grpc" }  =>  b3 b4 c1 e4 f2 f3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ instrumentation:version = "0.1" }  =>  b5 b6
{ instrumentation.lib = "asgi" && kind = server }  =>  a1 b1 h1
{ .lib = "asgi" && duration > 1s }  =>  b1 b2
{ span.user = "ada" }  =>  a1 a2
{ .user = "ada" || .user = "bob" }  =>  a1 a2 b3
{ .user != nil }  =>  a1 a2 b3 c1 h1 h2 h3
{ .user = "from event" }  =>  h1 h3
{ event.user = "from event" }  =>  h1 h3
{ span.http.request.method = "GET" }  =>  a1 a4 c1
{ .http.request.method =~ "GET|POST" }  =>  a1 a4 b1 c1
{ span.http.request.method != "GET" }  =>  b1
{ span.http.route = "/a/{id}" }  =>  d4
{ .n = 1 }  =>  a1 b1
{ .n = 2 }  =>  a2 b2
{ .n = "2" }  =>  b3
{ .n = 2.0 }  =>  a2 b2
{ .n >= 3 }  =>  a3 a4 d4 e2
{ .n < 0 }  =>  d3
{ 0 > .n }  =>  d3
{ .n != 1 }  =>  a2 a3 a4 b2 d2 d3 d4 e2
{ .n = 1000000000000000 }  =>  d4
{ .n = nil && kind = server }  =>  c1 h1
{ .ratio = 0.5 }  =>  a4
{ .ratio * 2 = 1 }  =>  a4
{ .big = 9007199254740993 }  =>  d1
{ .big = 9007199254740992 }  =>  -
{ .huge > 4611686018427387903 }  =>  d1
{ .tiny < 1ns }  =>  d1
{ .float > 1 && .float < 2 }  =>  d1
{ .whole = 2 }  =>  d1
{ .nan != 0 }  =>  d1
{ .nan = .nan }  =>  -
{ .inf > 1e300 }  =>  d1
{ .negative = -5 }  =>  d1
{ .negative < -4 && .negative > -6 }  =>  d1
{ -.negative = 5 }  =>  d1
{ .flag = true }  =>  d1
{ .flag }  =>  d1
{ !.flag }  =>  d3
{ .flag != true }  =>  d3
{ .flag = "true" }  =>  d2
{ .off = false && .flag }  =>  d1
{ .empty = "" }  =>  d1
{ .empty != "x" }  =>  d1
{ .text = "say \"hi\"\\ \n ünïcode" }  =>  d1
{ span."my key" = "spaced" }  =>  d1
{ ."a/b:c-d" = "symbols" }  =>  d1
{ span.a/b:c-d = "symbols" }  =>  d1
{ span."quo\"ted" = "q" }  =>  d1
{ .none = nil && name = "values" }  =>  d1 d2
{ .blob != nil }  =>  d1
{ .blob = "x" || .map = "x" || .map != "x" }  =>  -
{ .map != nil }  =>  d1
{ .tags = "y" }  =>  d1
{ .tags != "z" }  =>  d1 d3
{ .tags =~ "x|z" }  =>  d1 d3
{ .tags !~ "x|z" }  =>  -
{ .numbers > 2 }  =>  d1
{ .numbers = 4 }  =>  -
{ .numbers != 4 }  =>  d1
{ 3 = .numbers }  =>  d1
{ .mixed = "x" && .mixed = 1 && .mixed = true }  =>  d1
{ .nothing != "x" }  =>  d1
{ .nothing = nil && name = "values" }  =>  d2
{ .flags = false }  =>  d1
{ .floats = 2 }  =>  d1
{ event:name = "exception" }  =>  h1
{ event:name != "exception" }  =>  h1 h3
{ event:name =~ "cache.*" }  =>  h1 h3
{ event:name = nil && name = "batch" }  =>  h2
{ event:name != nil }  =>  h1 h3
{ event.exception.type = "ValueError" }  =>  h1
{ event.exception.message =~ "no such.*" }  =>  h1
{ event.attempt > 1 }  =>  h1
{ event.attempt = 1 && event.attempt = 2 }  =>  h1
{ event:timeSinceStart > 2ms }  =>  h1
{ event:timeSinceStart <= 0s }  =>  h3
{ .attempt = 1 }  =>  h1 h3
{ .exception.type = "KeyError" }  =>  h1
{ link:traceID = "61616161616161616161616161616161" }  =>  h2
{ link:spanID = "0000000000620001" }  =>  h2
{ link.reason = "batch" }  =>  h2
{ link.weight * 2 = 6 }  =>  h2
{ link:spanID != nil }  =>  h2
{ parent.n = 1 }  =>  a2 a3 b2
{ parent.span.user = "ada" && name = "check" }  =>  a2
{ parent.resource.service.name = "pay" && resource.service.name != "pay" }  =>  i5 i8 i11 i14 i17 i20 i23 i26 i29
{ parent.event.attempt = 1 }  =>  h2 h3
{ parent.user = nil && name = "level 2" }  =>  i2
{ .n + 1 = 3 }  =>  a2 b2
{ .n * .n = 9 }  =>  a3
{ .n / 2 = 1 }  =>  a2 a3 b2
{ .n % 2 = 1 }  =>  a1 a3 b1 e2
{ .n ^ 2 = 16 }  =>  a4
{ .rows / 0 = 1 }  =>  -
{ 2 + 3 * 4 = 14 && name = "send" }  =>  b6
{ 2 ^ 3 ^ 2 = 512 && name = "send" }  =>  b6
{ -.n < -3 }  =>  a4 d4 e2
{ duration * 2 > 2s }  =>  b1 b2 b3
{ duration / 10ms = 10 && kind = server }  =>  a1
{ traceDuration - duration < 1ms && rootServiceName = "shop" && kind = server }  =>  a1 b1 h1
{ .n = 1 || .n = 2 && kind = client }  =>  b2
{ .n = 1 || (.n = 2 && kind = client) }  =>  a1 b1 b2
{ !(.n = 1) && name =~ "GET.*" }  =>  a4 c1 h1
{ !(.user = "ada" || .user = "bob") && .user != nil }  =>  c1 h1 h2 h3
{ .nosuch = .nosuch }  =>  -
{ .nosuch || true }  =>  *
{ name = .user }  =>  -
{ .user = event.user }  =>  h1 h3
{ .n > .rows }  =>  -
{ .depth % 10 = 0 && .even }  =>  i10 i20 i30
{ .depth > 28 }  =>  i29 i30
{ name = "GET /cart" } && { name = "SELECT" }  =>  a1 a5 a6
{ name = "GET /cart" } && { name = "nothing" }  =>  -
{ name = "GET /cart" } || { name = "POST /pay" }  =>  a1 b3 h1
{ name = "SELECT" } || { name = "SELECT" }  =>  a5 a6
{ kind = server } > { kind = client }  =>  a3 a5 a6 b2
{ kind = server } >> { kind = client }  =>  a3 a5 a6 b2 b6
{ kind = client } < { kind = server }  =>  a1 a4 b1
{ kind = client } << { kind = server }  =>  a1 a4 b1 b3
{ name = "SELECT" } ~ { name = "SELECT" }  =>  a5 a6
{ name = "check" } ~ { kind = client }  =>  a3
{ kind = server } !> { kind = client }  =>  b6
{ kind = server } !>> { kind = client }  =>  -
{ kind = client } !< { kind = server }  =>  b3 c1 h1
{ kind = client } !<< { kind = server }  =>  c1 h1
{ name = "check" } !~ { kind = client }  =>  a5 a6 b2 b6
{ kind = server } &> { kind = client }  =>  a1 a3 a4 a5 a6 b1 b2
{ kind = server } &>> { name = "SELECT" }  =>  a1 a4 a5 a6
{ name = "SELECT" } &< { kind = server }  =>  a4 a5 a6
{ kind = consumer } &<< { kind = server }  =>  b1 b3 b5
{ name = "check" } &~ { kind = client }  =>  a2 a3
{ name = "level 1" } >> { .depth = 30 }  =>  i30
{ .depth = 30 } << { .even }  =>  i2 i4 i6 i8 i10 i12 i14 i16 i18 i20 i22 i24 i26 i28
{ .depth = 29 } > { .depth = 30 }  =>  i30
{ .depth = 28 } > { .depth = 30 }  =>  -
{ name = "orphan" } ~ { }  =>  e4
{ name = "orphan" } > { }  =>  e3
{ name = "ring" } > { name = "ring" }  =>  g1 g2
{ name = "ring" } >> { }  =>  g1 g2 g3
{ name = "its own parent" } > { }  =>  -
{ name = "its own parent" } ~ { }  =>  -
{ name = "root one" } ~ { name = "root two" }  =>  -
{ resource.service.name = "shop" } > { resource.service.name = "pay" }  =>  b3 f4 h3 i4 i7 i10 i13 i16 i19 i22 i25 i28
{ resource.service.name = "shop" } >> { resource.service.name = "pay" } >> { kind = consumer }  =>  b5
{ kind = server } > ({ kind = client } > { kind = server })  =>  -
({ kind = server } &>> { kind = client }) || ({ status = ok })  =>  a1 a3 a4 a5 a6 b1 b2 b3 b6 f4
({ status = error }) && ({ kind = producer })  =>  b4 b6
{ kind = server } | { status = error }  =>  a4 h1
{ kind = server } >> { kind = client } | { .n != nil }  =>  a3 b2
{ } | count() > 5  =>  a1 a2 a3 a4 a5 a6 b1 b2 b3 b4 b5 b6 i1..i30
{ kind = client } | count() = 3  =>  a3 a5 a6
{ kind = client } | count() != 3  =>  b2 b6
{ status = error } | count() >= 2  =>  -
count() = 1  =>  c1
{ } | avg(duration) > 250ms  =>  b1 b2 b3 b4 b5 b6
{ } | max(duration) = 1500ms  =>  b1 b2 b3 b4 b5 b6
{ } | min(duration) < 1ms  =>  d1 d2 d3 d4
{ .n != nil } | sum(.n) = 10  =>  a1 a2 a3 a4
{ .n != nil } | avg(.n) = 1.5  =>  b1 b2 b3
{ .n != nil } | max(.n) > 3 | min(.n) < 2  =>  a1 a2 a3 a4 d2 d3 d4
{ } | sum(duration) > 1s | count() < 7  =>  b1 b2 b3 b4 b5 b6
{ } | max(.nosuch) > 0  =>  -
{ } | count() * 2 > 10 + 1  =>  a1 a2 a3 a4 a5 a6 b1 b2 b3 b4 b5 b6 i1..i30
{ } | max(duration) - min(duration) > 100ms  =>  b1 b2 b3 b4 b5 b6
{ } | max(duration) / 2 > avg(duration)  =>  a1 a2 a3 a4 a5 a6 b1 b2 b3 b4 b5 b6 d1 d2 d3 d4 h1 h2 h3
{ } | by(resource.service.name) | count() > 2  =>  a1 a2 a3 a4 a5 a6 d1 d2 d3 f2 f3 f4 g1 g2 g3 g4 i1..i30
{ } | by(name) | count() = 2  =>  a5 a6 d1 d2 f3 f4 g1 g2
{ } | by(resource.service.name) | count() > 2 | coalesce()  =>  a1 a2 a3 a4 a5 a6 d1 d2 d3 f2 f3 f4 g1 g2 g3 g4 i1..i30
{ } | by(resource.service.name) | by(kind) | count() > 1  =>  a5 a6 d1 d2 e2 e3 f2 f3 f4 g1 g2 g3 g4 i1..i30
{ } | by(.n) | count() > 1  =>  a5 a6 b4 b5 b6 e3 e4 f1 f2 f3 f4 g1 g2 g3 g4 h1 h2 h3 i1..i30
{ .flag != nil } | by(.flag)  =>  d1 d2 d3
{ kind = server } | by(resource.service.name) | avg(duration) > 50ms  =>  a1 b1 b3
{ } | by(duration > 1s) | count() = 3  =>  b1 b2 b3 b4 b5 b6 e2 e3 e4 h1 h2 h3
{ } | by(status) | { status = error }  =>  a4 b6 h1
({ } | by(name) | count() = 2 | coalesce()) && { kind = server }  =>  a1 a4 a5 a6
({ } | by(name) | count() = 2 | coalesce()) > { }  =>  d2 d3 d4 g1 g2 g3
{ status = error } | select(span.n, resource.cluster)  =>  a4 b6 h1
{ status = error } | select(event.exception.type) with(most_recent=true)  =>  a4 b6 h1
{ } | coalesce() | count() = 1  =>  c1
{ name = "GET /cart" } with(sample=true, exemplars=10)  =>  a1 h1
"""


def cases():
    """(query, labels of the found spans) of each line."""
    for line in TABLE.strip().splitlines():
        query, _, found = line.partition("  =>  ")
        yield query, _expanded({"*": EVERYTHING, "-": ""}.get(found.strip(), found.strip()))


def _expanded(text):
    return text.replace("i1..i30", " ".join(f"i{number}" for number in range(1, 31)))
