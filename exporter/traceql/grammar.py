"""The grammar. Operators bind as Tempo's do: `&&` and `||` alike, from the left; then comparisons or structure."""

from __future__ import annotations

from typing import Any

from lark import Lark, Transformer

GRAMMAR = r"""
query: _stages hints*
     | _stages "|" _metric _second* hints*

_stages: _stage | _stages "|" _stage
_stage: spanset | by | coalesce | select | scalar_filter

?spanset: spanset (AND | OR) relation -> set_operation
        | relation
?relation: relation _structural primary -> set_operation
         | relation (PLUS | MINUS | TIMES | DIVIDE | MODULO | POWER) primary -> metric_arithmetic
         | primary
?primary: "{" [expression] "}" -> filter
        | "(" _stages ")" -> wrapped
        | "(" _stages "|" _metric ")" -> wrapped_metric
_structural: GT | LT | DESCENDANT | ANCESTOR | SIBLING
           | NOT_CHILD | NOT_PARENT | NOT_DESCENDANT | NOT_ANCESTOR | NRE
           | UNION_CHILD | UNION_PARENT | UNION_DESCENDANT | UNION_ANCESTOR | UNION_SIBLING

by: "by" "(" expression ")"
coalesce: "coalesce" "(" ")"
select: "select" "(" _fields ")"
_fields: field ("," field)*
field: ATTRIBUTE -> attribute
     | SCOPED_INTRINSIC -> scoped_intrinsic
     | NAME -> intrinsic

scalar_filter: scalar (EQ | NEQ | LT | LTE | GT | GTE) scalar
?scalar: scalar (PLUS | MINUS) product -> scalar_operation
       | product
?product: product (TIMES | DIVIDE | MODULO) power -> scalar_operation
        | power
?power: number POWER power -> scalar_operation
      | number
?number: aggregate
       | _numeric -> number
       | MINUS _numeric -> negative_number
       | "(" scalar ")"
       | "(" _stages "|" aggregate ")" -> wrapped_scalar
_numeric: INTEGER | FLOAT | DURATION
aggregate: COUNT "(" ")"
         | (AVG | MIN | MAX | SUM) "(" expression ")"

_metric: metric | compare
metric: (RATE | COUNT_OVER_TIME) "(" ")" [group]
      | (MIN_OVER_TIME | MAX_OVER_TIME | AVG_OVER_TIME | SUM_OVER_TIME | HISTOGRAM_OVER_TIME) "(" field ")" [group]
      | QUANTILE_OVER_TIME "(" field "," quantile ("," quantile)* ")" [group]
quantile: INTEGER | FLOAT
group: "by" "(" _fields ")"
compare: "compare" "(" compared ["," INTEGER ["," INTEGER "," INTEGER]] ")"
compared: "{" [expression] "}"
_second: "|" ranking | threshold
ranking: (TOPK | BOTTOMK) "(" INTEGER ")"
threshold: (EQ | NEQ | LT | LTE | GT | GTE) [MINUS] _numeric

hints: "with" "(" hint ("," hint)* ")"
hint: NAME "=" literal

?expression: expression (AND | OR) comparison -> binary
           | comparison
?comparison: comparison (EQ | NEQ | LT | LTE | GT | GTE | RE | NRE) sum -> binary
           | sum
?sum: sum (PLUS | MINUS) term -> binary
    | term
?term: term (TIMES | DIVIDE | MODULO) signed -> binary
     | signed
?signed: (MINUS | NOT) signed -> unary
       | raised
?raised: atom POWER signed -> binary
       | atom
?atom: literal
     | field
     | "(" expression ")"
literal: STRING -> string
       | RAW_STRING -> raw_string
       | INTEGER -> integer
       | FLOAT -> float
       | DURATION -> duration
       | KEYWORD -> keyword

AND: "&&"
OR: "||"
EQ: "="
NEQ: "!="
RE: "=~"
NRE: "!~"
GT: ">"
GTE: ">="
LT: "<"
LTE: "<="
PLUS: "+"
MINUS: "-"
TIMES: "*"
DIVIDE: "/"
MODULO: "%"
POWER: "^"
NOT: "!"
DESCENDANT: ">>"
ANCESTOR: "<<"
SIBLING: "~"
NOT_CHILD: "!>"
NOT_PARENT: "!<"
NOT_DESCENDANT: "!>>"
NOT_ANCESTOR: "!<<"
UNION_CHILD: "&>"
UNION_PARENT: "&<"
UNION_DESCENDANT: "&>>"
UNION_ANCESTOR: "&<<"
UNION_SIBLING: "&~"
COUNT: "count"
AVG: "avg"
MIN: "min"
MAX: "max"
SUM: "sum"
RATE: "rate"
COUNT_OVER_TIME: "count_over_time"
MIN_OVER_TIME: "min_over_time"
MAX_OVER_TIME: "max_over_time"
AVG_OVER_TIME: "avg_over_time"
SUM_OVER_TIME: "sum_over_time"
HISTOGRAM_OVER_TIME: "histogram_over_time"
QUANTILE_OVER_TIME: "quantile_over_time"
TOPK: "topk"
BOTTOMK: "bottomk"

ATTRIBUTE.5: /(?:(?:parent\.(?:resource\.|span\.)?|resource\.|span\.|event\.|link\.|instrumentation\.)|\.(?![0-9]))(?:[^\s{}()=~!<>&|^,"]|"(?:[^"\\\n]|\\.)*")+/
SCOPED_INTRINSIC.5: /(?:trace|span|event|link|instrumentation):[A-Za-z]+/
KEYWORD.4: /(?:true|false|nil|ok|error|unset|unspecified|internal|server|client|producer|consumer|minInt|maxInt)(?![\w.:])/
DURATION.4: /(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h|d|w|y))+(?!\w)/
FLOAT.3: /(?:[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)(?!\w)/
INTEGER.2: /[0-9]+(?!\w)/
STRING: /"(?:[^"\\\n]|\\.)*"/
RAW_STRING: /`[^`]*`/
NAME: /[A-Za-z_]\w*/

%import common.WS
%ignore WS
"""


def make_parser(transformer: Transformer[Any, Any]) -> Lark:
    """A parser that calls the transformer's methods as it reads: no tree, and no recursion over one."""
    return Lark(GRAMMAR, start="query", parser="lalr", lexer="contextual", transformer=transformer)
